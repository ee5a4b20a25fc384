"""OpenAI-compatible HTTP server: `python serve.py ckpt=...`."""
