"""Damaged, hostile and odd input for everything that opens untrusted files or takes options.

An input is a pure function of (seed, target, number): `python -m benchmarks.fuzz targets=image only=image:1234 keep=DIR` repeats
one of them. A program must answer, or refuse in one line that names the file, within limits of time and memory.
"""
