"""Kernels that `benchmarks.speed.kernels` times, each with the libraries that do the same."""
