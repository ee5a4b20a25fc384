"""Fault injection and kills of training runs: nothing must be lost, and each fault must be caught by name."""
