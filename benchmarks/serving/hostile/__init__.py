"""Requests made to break a server: see `__main__`."""
