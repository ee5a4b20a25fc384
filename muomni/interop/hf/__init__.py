"""Pretrained models of Hugging Face folders, in and out: docs/pretrained.md."""
