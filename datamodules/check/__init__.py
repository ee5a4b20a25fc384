"""Is the data what the training takes it for? `python -m datamodules.check` reads all of it once and says what is
wrong, what to set, and what it holds; `train.py` runs the part that needs no media before it trains.

A topic a module (rows, leaks, readable, sound, transcripts, speakers, texts, tokens, images), each with findings, options to set
and numbers. Statistics are streaming: a row costs some bytes.
"""
