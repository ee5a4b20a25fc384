"""Whether validation reads what training learns, which says nothing of other data."""

import os
from pathlib import Path
from typing import Any

from datamodules.fingerprint import digest


def same_file(one: Path, other: Path) -> bool:
    """True if two paths are one file or folder, however it is named."""
    return os.path.realpath(one) == os.path.realpath(other)


def same_data(one: Path, other: Path, *, root: str | None) -> bool:
    """True if two manifests are one file or folder, or copies of a file that name the same media. root: of the media of both;
    None: each manifest's own folder."""
    if same_file(one, other):
        return True
    if not (one.is_file() and other.is_file()) or one.stat().st_size != other.stat().st_size:
        return False
    return (root is not None or same_file(one.parent, other.parent)) and digest(one) == digest(other)


def reads_training_rows(data: Any, path: str) -> bool:
    """True if validation on `path`, which a datamodule has read, reads the very rows that its training does."""
    train, splits = data.train, data.splits or {}
    if train is None or splits.get("val") != splits.get("train") or data.holds_out:
        return False
    if not same_data(Path(path), Path(train), root=data.root):
        return False
    rows = getattr(data.samples("val"), "rows", None)
    return splits.get("val") is not None or Path(path).is_file() or bool(rows and "split" not in rows[0])
