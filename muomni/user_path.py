"""Paths as people write them: with `~`, also where no shell has replaced it (`ckpt=~/omni`, Python), in another Unicode form
(macOS decomposes é, others do not), with backslashes."""

import os
import re
import unicodedata
from functools import lru_cache
from pathlib import Path

from muomni.short_repr import shown

LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes, on Linux; macOS takes fewer

HOME = re.compile(r"(?<=[=:,\[{(\s\"'])~[\w.-]*(?=$|[/,\]})\s\"'])")


def user_path(path: str | os.PathLike[str]) -> Path:
    """The path with its `~` or `~NAME` replaced, and as it is spelled where it is there (`find`). Raises FileNotFoundError for
    one that no file can have: the system would raise another error than for a missing file."""
    whole = os.path.expanduser(path)
    names = os.fsencode(whole).split(b"/")
    if len(os.fsencode(whole)) > LONGEST_PATH or max(map(len, names)) > LONGEST_NAME:
        raise FileNotFoundError(f"no such file or folder, its name is too long: {shown(whole, str)}")
    return Path(find(whole))


def with_home(word: str) -> str:
    """A word of the command line, NAME=VALUE, with every `~` replaced that begins a value or a value inside a list or table."""
    return HOME.sub(lambda found: os.path.expanduser(found.group()), word)


def find(name: str) -> str:
    """The name under which a file or folder is there; the name itself where it is there, or nothing like it is."""
    expanded = os.path.expanduser(name)
    if not name or os.path.lexists(expanded):
        return expanded
    for spelled in (expanded, expanded.replace("\\", "/")):
        found = _spelled_alike(spelled)
        if found is not None:
            return found
    return name


def _spelled_alike(name: str) -> str | None:
    """A path whose parts are equal to those of `name` but for their Unicode form; None where there is none."""
    path = Path(name)
    here = Path(path.anchor) if path.is_absolute() else Path()
    for part in path.parts[1:] if path.is_absolute() else path.parts:
        if os.path.lexists(here / part):
            here /= part
            continue
        folder = os.path.abspath(here)
        changed = os.stat(folder).st_mtime_ns if os.path.isdir(folder) else 0
        alike = _names(folder, changed).get(unicodedata.normalize("NFC", part))
        if alike is None:
            return None
        here /= alike
    return str(here)


@lru_cache(maxsize=64)
def _names(folder: str, changed: int) -> dict[str, str]:
    """Composed name -> name, of all in a folder that are not ASCII. changed: when it last did."""
    try:
        return {unicodedata.normalize("NFC", name): name for name in os.listdir(folder) if not name.isascii()}
    except OSError:
        return {}
