"""Thinkers as folders of mlx-lm: docs/pretrained.md."""
