"""Where compiled code is kept: a folder of the user's own that no one else can write, and that does not grow for ever.

What lies in it is run. So it never lies in an export, which may come from someone else, nor under /tmp, where others may have
been first.
"""

import os
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

REMEDY = "name a folder of your own by packages=DIR, or by XDG_CACHE_HOME"
YOUNG = 3600.0  # seconds; what is younger may be in the making


def cache_folder(name: str) -> Path:
    """$XDG_CACHE_HOME/muomni/`name` (~/.cache where it is not set), made where it is missing, for its owner alone.

    Raises ValueError where it belongs to someone else or cannot be made.
    """
    own = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(own) if os.path.isabs(own) else Path(os.path.expanduser("~/.cache"))
    folder = base / "muomni" / name
    try:
        base.mkdir(parents=True, exist_ok=True)
        for each in (folder.parent, folder):
            each.mkdir(mode=0o700, exist_ok=True)
            check_own(each)
            each.chmod(0o700)
    except OSError as error:
        raise ValueError(f"{folder}: compiled steps cannot be kept there ({error}); {REMEDY}") from error
    return folder


def check_own(path: Path) -> None:
    """Raise ValueError for a file or folder, or a link to one, that belongs to someone else than this user, or root."""
    for status in (path.lstat(), path.stat()):
        if status.st_uid not in (os.geteuid(), 0):
            raise ValueError(f"{path} belongs to another user: code in it is not run; {REMEDY}")
    if stat.S_ISREG(path.stat().st_mode) and path.stat().st_mode & 0o022:
        raise ValueError(f"{path} can be written by other users: code in it is not run; remove it, it is built anew")


def prune(files: Iterable[Path], *, most: int, most_bytes: int) -> None:
    """Remove what was used least lately, until at most `most` files of together `most_bytes` are left. Young ones stay."""
    left, size = 0, 0
    known = []
    for path in files:
        with suppress(OSError):  # another process may have been faster
            status = path.stat()
            known.append((status.st_mtime, status.st_size, path))
    for used, bytes_, path in sorted(known, reverse=True):
        left, size = left + 1, size + bytes_
        if (left > most or size > most_bytes) and time.time() - used > YOUNG:
            with suppress(OSError):
                path.unlink()
