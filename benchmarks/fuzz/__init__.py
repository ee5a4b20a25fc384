"""Damaged, hostile and odd input for everything that opens untrusted files or takes options.

An input is a pure function of (seed, target, number): `python -m benchmarks.fuzz targets=image only=image:1234 keep=DIR` repeats
one of them. A program must answer, or refuse in one line that names the file, within limits of time and memory:

    harness.py   processes that try inputs one after another, and the outcome of each
    mutate.py    damage to bytes, and to trees of plain data
    media.py     targets: images, audio, videos
    models.py    targets: exports, single files, checkpoints, tokenizers, checkpoints of micro-omni
    ask.py       calls of an export
    data.py      targets: manifests, texts, n-grams
    options.py   targets: calls of an engine
"""
