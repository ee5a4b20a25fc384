"""Packages that only some formats need: the extra `data`."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType


def imported(name: str, path: Path | str) -> ModuleType:
    """The module. path: of the data that needs it. Raises ValueError that says how to install it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        raise ValueError(f"{path}: reading it needs {package}: pip install 'muomni[data]'") from error


@contextmanager
def naming(path: Path | str, what: str) -> Iterator[None]:
    """Whatever a library raises inside, of damaged files all sorts, becomes a ValueError of one line: PATH: WHAT (reason)."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path}: {what} ({reason})") from error
