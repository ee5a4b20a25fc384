"""Import and export of micro-omni's checkpoints: docs/coming-from-micro-omni.md."""
