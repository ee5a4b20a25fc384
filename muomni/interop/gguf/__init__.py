"""Thinkers as GGUF files of llama.cpp, out and in: docs/pretrained.md."""
