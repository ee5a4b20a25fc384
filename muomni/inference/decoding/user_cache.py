"""The folder of compiled code: owned by the user, writable by no one else, of bounded size.

Its content is executed. So it is never part of an export, which may come from someone else, nor under /tmp, where another user
could have created it first.
"""

import os
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from muomni.inference.errors import MuomniError

REMEDY = "name a folder of your own by packages=DIR, or by XDG_CACHE_HOME"
YOUNG = 3600.0  # seconds; a younger file may still be in use by its builder


def cache_folder(name: str) -> Path:
    """$XDG_CACHE_HOME/muomni/`name` (default ~/.cache), created if missing, with mode 0700.

    Raises MuomniError if it belongs to another user or cannot be created.
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
        raise MuomniError(f"{folder}: compiled steps cannot be kept there ({error}); {REMEDY}") from error
    return folder


def check_own(path: Path) -> None:
    """Raise MuomniError for a path (or the target of a link) owned by neither this user nor root, or writable by others."""
    for status in (path.lstat(), path.stat()):
        if status.st_uid not in (os.geteuid(), 0):
            raise MuomniError(f"{path} belongs to another user: code in it is not run; {REMEDY}")
    if stat.S_ISREG(path.stat().st_mode) and path.stat().st_mode & 0o022:
        raise MuomniError(f"{path} can be written by other users: code in it is not run; remove it, it is rebuilt")


def prune(files: Iterable[Path], *, max_files: int, max_bytes: int) -> None:
    """Remove the least recently used files beyond `max_files` files or `max_bytes` in total. Files younger than `YOUNG`
    stay."""
    left, size = 0, 0
    known = []
    for path in files:
        with suppress(OSError):  # another process may have removed it
            status = path.stat()
            known.append((status.st_mtime, status.st_size, path))
    for used, bytes_, path in sorted(known, reverse=True):
        left, size = left + 1, size + bytes_
        if (left > max_files or size > max_bytes) and time.time() - used > YOUNG:
            with suppress(OSError):
                path.unlink()
