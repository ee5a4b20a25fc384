"""Serving measured: streams at once compared with one, and with the engine alone."""
