"""Manifests: data files whose entries have one of a few shapes, with media paths relative to a root.

Shapes: shapes.py. Formats: formats/. An entry that cannot be used is skipped, counted and reported; more than 1 % of them is an
error. docs/data/formats.md has an example of each.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.formats import BadRow, Entries, Reading, Row, entry_place, read_entries
from datamodules.formats.hugging_face import HUGGING_FACE
from datamodules.formats.splits import phase_of
from datamodules.large_manifests import indexed_rows, is_large, pack_entries, pack_rows, refuse_reading
from datamodules.lazy_rows import LazyRows
from datamodules.packs.index import is_pack
from datamodules.row_label import label as label
from datamodules.row_report import MAX_BAD_SHARE as MAX_BAD_SHARE
from datamodules.row_report import log_skipped, report_repeated, report_split
from datamodules.row_report import report_bad as report_bad
from datamodules.shapes import CHECKS, check_of
from muomni.short_repr import shown

log = logging.getLogger(__name__)


class TextFile(NamedTuple):
    """A manifest, how it is read, and the root of its media (None: its own folder)."""

    path: str
    reading: Reading
    root: str | None


def read_manifest(
    path: Path | str,
    *,
    shape: str,
    split: str | None = None,
    root: Path | str | None = None,
    reading: Reading | None = None,
    phase: str | None = None,
    cache: str | None = None,
) -> Sequence[Row]:
    """Rows of a manifest or a pack, media paths made absolute, each with an `id` of its own; the same whatever the file's format.
    Those of a large one stay on the disk (large_manifests.py).

    split: keep only rows whose "split" is this; None keeps all, but of a folder with splits of its own, and where shares of the
    data are splits (`Reading.split_shares`), those of the phase "train", "val" or "test", by the splits' names.
    root: of the media paths: `p` is root/p, root/images/p, parent of root/p or p, the first that is a file. None: the
    manifest's own folder. reading: how the user wants it to be read. cache: folder of the indexes of large manifests; None:
    a temporary one of the user's.
    Raises FileNotFoundError for a missing manifest or root, ValueError naming file and line when over 1 % of the split's
    rows are bad (one that cannot be read counts in every split) or when no row is left.
    """
    path = Path(path)
    reading = reading or Reading()
    folder = _media_folder(path, shape=shape, root=root, reading=reading)
    if is_pack(path):
        refuse_reading(path, reading)
        return pack_rows(path, shape=shape, split=split, phase=phase, cache=cache)
    if is_large(path, shape=shape):
        return indexed_rows(
            path, shape=shape, split=split, root=folder, reading=reading, phase=phase, cache=cache,
            check=check_of(shape, labelled=reading.labelled),
        )  # fmt: skip
    rows: list[Row] = []
    bad: list[str] = []
    others: Counter[str] = Counter()
    seen: set[str] = set()
    twice: list[str] = []
    for number, entry in checked_entries(path, shape=shape, split=split, root=root, reading=reading, phase=phase):
        if isinstance(entry, BadRow):
            bad.append(f"{entry_place(path, number)}: {entry}")
        elif isinstance(entry, OtherSplit):
            others[shown(entry.name, most=60)] += 1
        else:
            where = f"{path}/{number}" if isinstance(number, str) else f"{path}:{number}"
            given = entry.get("id")
            entry["id"] = _unused(given, seen, where=where)
            if entry["id"] not in (given, where):
                twice.append(f"{entry_place(path, number)}: {shown(given, str, most=60)}")
            rows.append(entry)
    report_split(len(rows), bad, others, split=split, phase=phase, what=str(path))
    if twice:
        report_repeated(len(twice), len(rows), first=twice[0], what=str(path))
    return rows


def _media_folder(path: Path, *, shape: str, root: Path | str | None, reading: Reading) -> Path:
    """The folder of a manifest's media paths. Errors of what is no manifest as of `read_manifest`."""
    if shape not in CHECKS:
        raise ValueError(f"unknown manifest shape {shape!r}; available: {', '.join(CHECKS)}")
    if not path.exists() and reading.format != HUGGING_FACE.name:
        raise FileNotFoundError(f"{path}: no such manifest")
    if root is not None and not Path(root).is_dir():
        raise FileNotFoundError(f"data.root={root}: no such folder")
    return Path(os.path.abspath(root if root is not None else path if path.is_dir() else path.parent))


@dataclass(frozen=True, slots=True)
class OtherSplit:
    """A row of a split that is not read. name: the value of its "split", None where it has none."""

    name: Any


def checked_entries(
    path: Path,
    *,
    shape: str,
    split: str | None,
    root: Path | str | None,
    reading: Reading | None = None,
    phase: str | None = None,
    every: int = 1,
) -> Iterator[tuple[int | str, Row | BadRow | OtherSplit]]:
    """(number, entry) of every entry of a manifest, one after the other: a row with absolute media paths, a BadRow in place of
    one that cannot be used. every: of the rows that can be read, only each n-th of the split. Arguments and errors of what is
    no manifest as of `read_manifest`."""
    reading = reading or Reading()
    folder = _media_folder(path, shape=shape, root=root, reading=reading)
    own_splits = split is None and phase is not None and (not path.is_file() or bool(reading.split_shares))
    if is_pack(path):
        refuse_reading(path, reading)
        entries: Entries = pack_entries(path, shape=shape)
    else:
        entries = read_entries(path, shape=shape, reading=reading)
    check = check_of(shape, labelled=reading.labelled)
    position = -1
    for number, entry in entries:
        if isinstance(entry, BadRow):
            yield number, entry
        elif split is not None and entry.get("split") != split:
            yield number, OtherSplit(entry.get("split"))
        elif own_splits and phase_of(entry.get("split")) not in (None, phase):
            yield number, OtherSplit(entry["split"])
        elif (position := position + 1) % every:
            continue
        else:
            try:
                check(entry, folder)
            except BadRow as error:
                yield number, error
            else:
                yield number, entry


def _unused(given: Any, seen: set[str], *, where: str) -> Any:
    """A row's own id, or else FILE:LINE, which no other file shares; to one that the file has already, FILE:LINE is appended."""
    name = where if given is None or str(given) == "" else given
    if str(name) in seen:
        name = f"{name} ({where})"
    seen.add(str(name))
    return name


def keep_rows(rows: Sequence[Row], kept: Iterable[bool], *, what: str, why: str) -> Sequence[Row]:
    """The rows that are kept; how many are not is logged (`log_skipped`)."""
    if isinstance(rows, LazyRows):
        used: Sequence[Row] = rows.choose(np.asarray(kept, dtype=bool))
    else:
        used = [row for row, keep in zip(rows, kept, strict=True) if keep]
    log_skipped(len(rows) - len(used), len(rows), what=what, why=why)
    return used


def first_rows(rows: Sequence[Row], count: int | None, *, what: str, why: str) -> Sequence[Row]:
    """The first `count` rows, None: all; how many others there are is logged."""
    if count is None or count >= len(rows):
        return rows
    log_skipped(len(rows) - count, len(rows), what=what, why=why)
    return rows[:count]


@dataclass(eq=False)
class RowSet:
    """Samples that are rows of a manifest; a subclass defines `item`. index: the row of each sample, all rows in their order
    unless a subclass chooses some."""

    rows: Sequence[Row]
    index: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.index = np.arange(len(self.rows), dtype=np.int32)

    def __len__(self) -> int:
        return len(self.index)

    def row(self, index: int) -> int:
        """The row of sample `index`."""
        return int(self.index[index])

    def name(self, index: int) -> str:
        """The row's id."""
        return str(self.rows[self.row(index)]["id"])
