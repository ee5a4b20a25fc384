"""Packs: a data set as plain tar files with an index (docs/data/packs.md)."""
