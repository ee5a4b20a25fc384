"""Checkpoints of micro-omni, there and back: docs/coming-from-micro-omni.md."""
