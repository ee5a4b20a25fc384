"""The library of espeak-ng through ctypes, of the package `espeakng-loader` (the extra `world`, GPL).

The engine keeps state between utterances, so that the same text spoken twice would give different samples: the library
is terminated, unloaded and loaded again for each use (under a millisecond), which makes it bit-exact and independent
of the order. One use at a time in a process; never fork with it loaded.
"""

import ctypes
import importlib
import os
import tempfile
import threading
from _ctypes import dlclose
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

LONGEST_DATA_PATH = 158  # characters; the library fails over that
SYNCHRONOUS, DONT_EXIT = 2, 0x8000
_LOADED = threading.Lock()


def loader(*, who: str) -> Any:
    """The package that carries the library. who: what needs it, for the ValueError that names the extra where it is missing."""
    try:
        return importlib.import_module("espeakng_loader")
    except ImportError as error:
        raise ValueError(f"{who} needs the package espeakng-loader: pip install 'muomni[world]'") from error


@lru_cache(maxsize=1)
def data_path() -> str:
    """The engine's data folder, through a short link where its own path is too long for the engine."""
    path = str(importlib.import_module("espeakng_loader").get_data_path())
    if len(path) <= LONGEST_DATA_PATH:
        return path
    link = Path(tempfile.mkdtemp(prefix="espeak")) / "data"
    os.symlink(path, link)
    return str(link)


@contextmanager
def engine(*, who: str) -> Iterator[tuple[ctypes.CDLL, int]]:
    """The library, loaded and started for the block alone, and its sample rate in Hz.

    Raises ValueError for a missing package, RuntimeError where the engine does not start.
    """
    with _LOADED:
        library = ctypes.CDLL(str(loader(who=who).get_library_path()))
        try:
            rate = library.espeak_Initialize(SYNCHRONOUS, 0, data_path().encode(), DONT_EXIT)
            if rate <= 0:
                raise RuntimeError(f"{who}: espeak-ng did not start with the data in {data_path()}")
            yield library, rate
        finally:
            library.espeak_Terminate()
            dlclose(library._handle)
