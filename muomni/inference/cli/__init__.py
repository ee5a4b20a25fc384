"""The interactive side of infer.py."""
