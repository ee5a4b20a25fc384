"""What is freed goes back to the system: glibc's malloc in a process that runs for hours or weeks.

By default it keeps up to 8 heaps a core, one for each thread that allocates, and serves ever larger blocks from them once such
blocks have been freed. A few megabytes in use then hold tens of megabytes that are free: 2000 requests with images, recordings
and large bodies left 250 MB so, of which nothing was in use, and a training whose batches differ in length a gigabyte and more.
Two heaps are enough for the threads of a server, and now and then free pages are given back. (Mapping large blocks one by one
would do as well, at the price of new pages for every tensor.)
"""

import ctypes
import os
import sys
from typing import Any

ARENAS = 2
M_ARENA_MAX = -8  # malloc.h


def _glibc(name: str) -> Any:
    """A function of malloc.h, None where there is none: musl, macOS, Windows."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None


def limit_heaps() -> bool:
    """True if the number is limited; not where the environment (MALLOC_ARENA_MAX) says how many. To be called before threads are
    started."""
    mallopt = _glibc("mallopt")
    return mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ and mallopt(M_ARENA_MAX, ARENAS) == 1


def give_back() -> None:
    """Free pages, to the system. Some milliseconds, without Python's lock."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)
