"""Paths as people write them: `~` is the home folder, also where no shell has replaced it (`ckpt=~/omni`, Python)."""

import os
import re
from pathlib import Path

HOME = re.compile(r"(?<=[=:,\[{(\s\"'])~[\w.-]*(?=$|[/,\]})\s\"'])")


def user_path(path: str | os.PathLike[str]) -> Path:
    """The path with its `~` or `~NAME` replaced; a name that nobody has stays as it is."""
    return Path(os.path.expanduser(path))


def with_home(word: str) -> str:
    """A word of the command line, NAME=VALUE, with every `~` replaced that begins a value or a value inside a list or table."""
    return HOME.sub(lambda found: os.path.expanduser(found.group()), word)
