"""Continuous batching: requests that arrive while others decode join them."""
