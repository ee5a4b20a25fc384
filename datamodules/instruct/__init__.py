"""Conversations made from the labels of other data: recordings with texts and speakers, pictures with names and captions.

`tasks.py` has the questions about a row, `wordings.py` in which words, `splits.py` what is held out; `build.py` writes the
manifests.
"""
