"""Damaged, hostile and merely odd input for everything that opens a file of someone else, or takes an option.

An input is a pure function of (seed, target, number): `python -m benchmarks.fuzz targets=image only=image:1234 keep=DIR` makes
one of them again. What is tried must answer, or refuse in one line that names the file, within time and memory:

    harness.py   processes that try inputs one after another, and what became of each
    mutate.py    damage to bytes, and to trees of plain data
    media.py     targets: images, sounds, videos
    models.py    targets: exports, single files, checkpoints, tokenizers, checkpoints of micro-omni
    ask.py       what an export is asked
    data.py      targets: manifests, texts, n-grams
    options.py   targets: what is asked of an engine
"""
