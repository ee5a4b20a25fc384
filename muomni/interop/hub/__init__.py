"""Folders to a model hub and from it: docs/pretrained.md."""
