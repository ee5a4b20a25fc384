"""Exports and single files: written whole or not at all, read as data."""

from typing import Any

from muomni import aliases


def __getattr__(name: str) -> Any:
    return aliases.attribute(__name__, name)
