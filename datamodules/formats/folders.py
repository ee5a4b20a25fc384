"""What readers of folders share: walking them, always in the same order."""

import os
from collections.abc import Iterator
from pathlib import Path

from datamodules.formats.entries import BadRow
from muomni.short_repr import shown

AUDIO_SUFFIXES = (".flac", ".wav", ".mp3", ".ogg", ".opus")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")
TRIED = 3  # folders of a level that are looked into, to recognise a format


def folders_in(path: Path) -> list[Path]:
    """The folders inside that are not hidden, by name."""
    with os.scandir(path) as entries:
        names = sorted(each.name for each in entries if not each.name.startswith(".") and each.is_dir())
    return [path / name for name in names]


def files_under(folder: Path) -> Iterator[Path]:
    """All files at any depth that are not hidden, by name."""
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(directory, name) for name in sorted(names) if not name.startswith("."))


def has_below(path: Path, suffix: str, *, depth: int) -> bool:
    """True if a file of a few folders at most so many levels below has a name that ends so."""
    if not path.is_dir():
        return False
    with os.scandir(path) as entries:
        if any(each.name.endswith(suffix) for each in entries):
            return True
    return depth > 0 and any(has_below(each, suffix, depth=depth - 1) for each in folders_in(path)[:TRIED])


def leaves(name: str, folder: Path) -> bool:
    """True if a relative name leads out of the folder's parent by "..". folder: absolute."""
    if ".." not in name or os.path.isabs(name):
        return False
    top, path = os.path.abspath(folder.parent), os.path.abspath(folder / name.replace("\\", "/"))
    return os.path.commonpath([top, path]) != top


def named_file(folder: Path, name: str) -> str | BadRow:
    """The path of a file that a table names relative to a folder, which is absolute; a BadRow where it leaves the folder's
    parent."""
    if leaves(name, folder):
        return BadRow(
            f"{shown(name, str, most=300)} leaves {folder.parent}: name the file absolutely, or move it there"
        )
    return os.path.join(folder, name)


def first_file(folder: Path, stem: str, suffixes: tuple[str, ...]) -> str | BadRow:
    """The first of the files STEM.SUFFIX (or .suffix in capitals) that is there; the first of the names where none is, and as of
    `named_file` where it leaves the folder's parent."""
    path = named_file(folder, stem)
    if isinstance(path, BadRow):
        return path
    names = [f"{path}{suffix}" for suffix in (*suffixes, *map(str.upper, suffixes))]
    return next((name for name in names if os.path.isfile(name)), names[0])
