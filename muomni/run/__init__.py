"""A training run: its folder, the stages before it, its signals, its machine."""
