"""Side-by-side timings of this machine."""
