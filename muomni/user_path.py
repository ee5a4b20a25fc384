"""Paths as people write them: `~` is the home folder, also where no shell has replaced it (`ckpt=~/omni`, Python)."""

import os
import re
from pathlib import Path

from muomni.shown import shown

LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes, on Linux; macOS takes fewer

HOME = re.compile(r"(?<=[=:,\[{(\s\"'])~[\w.-]*(?=$|[/,\]})\s\"'])")


def user_path(path: str | os.PathLike[str]) -> Path:
    """The path with its `~` or `~NAME` replaced; a name that nobody has stays as it is. Raises FileNotFoundError for one that no
    file can have: asked for it, the system would raise another error than for a missing file."""
    whole = os.path.expanduser(path)
    names = os.fsencode(whole).split(b"/")
    if len(os.fsencode(whole)) > LONGEST_PATH or max(map(len, names)) > LONGEST_NAME:
        raise FileNotFoundError(f"no such file or folder, its name is too long: {shown(whole, str)}")
    return Path(whole)


def with_home(word: str) -> str:
    """A word of the command line, NAME=VALUE, with every `~` replaced that begins a value or a value inside a list or table."""
    return HOME.sub(lambda found: os.path.expanduser(found.group()), word)
