"""The index of a large manifest: its checked rows as lines of JSON in the data cache, found by their offsets.

Rows are copied instead of pointed to: they come from any format (a CSV record or a cell of a Parquet file has no offset that
it can be read from), are checked, named and their media found once instead of at every read, and a manifest that is edited
during a training does not change under it. Media are not copied.

    rows.jsonl      a row a line             splits.npy    which of the splits each row names, -1 for none
    offsets.npy     where each begins        numbers.npy   line or entry of the manifest that each was, of a folder its row
    repeated.npy    rows whose id an earlier row has, in the whole file (repeated_in_split.npy: in their split)
    about.json      how many rows each split has, and which could not be used; written last
"""

import hashlib
import json
import os
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.fingerprint import digest
from datamodules.formats import BadRow, Row
from datamodules.lazy_rows import RowSource
from datamodules.media import file_identity
from datamodules.row_json import dump_row, load_row
from muomni.checkpoints.atomic_write import atomic_folder

VERSION = 1
FLUSH = 1 << 22  # bytes
FILES = (
    "rows.jsonl", "offsets.npy", "splits.npy", "numbers.npy", "repeated.npy", "repeated_in_split.npy", "about.json",
)  # fmt: skip

#: Of every entry its line or number; the row, None where it cannot be read; what is wrong with it, None where nothing is.
Checked = Iterable[tuple[int | str, Row | None, BadRow | None]]


@dataclass
class Tally:
    """Rows of a split: how many, how many could not be used, and the first of these."""

    rows: int = 0
    bad: int = 0
    first: str = ""

    def add_bad(self, what: str) -> None:
        self.bad += 1
        self.first = self.first or what


def index_folder(cache: Path, path: Path, *, shape: str, root: Path, reading: str) -> Path:
    """Where the index of a manifest is kept; another one for a manifest that has changed, or is read in another way."""
    content = digest(path) if path.is_dir() else file_identity(os.path.abspath(path))
    key = json.dumps([VERSION, str(path), content, shape, str(root), reading])
    return cache / "manifests" / f"{path.name[:80]}-{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}"


def write_index(folder: Path, entries: Checked, *, path: Path, name_of: Callable[[int | str], str]) -> None:
    """Read all entries of a manifest into `folder`, whole or not at all. name_of: how messages name an entry."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder, own=FILES) as temporary:
        columns = _Columns()
        with (temporary / "rows.jsonl").open("wb", buffering=FLUSH) as file:
            for number, row, wrong in entries:
                if wrong is not None or row is None:
                    columns.tally(row).add_bad(f"{name_of(number)}: {wrong}")
                    continue
                given = row.get("id")
                if given is None or str(given) == "":
                    row["id"] = f"{path}:{number}"
                line = dump_row(row) + b"\n"
                columns.add(number, row, len(line))
                file.write(line)
        columns.save(temporary)


@dataclass
class _Columns:
    """What is known of the rows that were written, 40 bytes each."""

    offsets: array = field(default_factory=lambda: array("q", [0]))
    numbers: array = field(default_factory=lambda: array("q"))
    splits: array = field(default_factory=lambda: array("i"))
    ids: array = field(default_factory=lambda: array("q"))
    tallies: dict[str | None, Tally] = field(default_factory=lambda: {None: Tally()})  # None: rows that name no split
    codes: dict[str | None, int] = field(default_factory=lambda: {None: -1})
    unreadable: Tally = field(default_factory=Tally)

    def tally(self, row: Row | None) -> Tally:
        return self.unreadable if row is None else self.tallies.setdefault(_split_of(row), Tally())

    def add(self, number: int | str, row: Row, length: int) -> None:
        """length: of its line."""
        self.tally(row).rows += 1
        self.offsets.append(self.offsets[-1] + length)
        self.numbers.append(number if isinstance(number, int) else len(self.numbers) + 1)  # of a folder: FILE:LINE
        self.splits.append(self.codes.setdefault(_split_of(row), len(self.codes) - 1))
        self.ids.append(hash(str(row["id"])))

    def save(self, folder: Path) -> None:
        np.save(folder / "offsets.npy", np.frombuffer(self.offsets, dtype=np.int64))
        np.save(folder / "numbers.npy", np.frombuffer(self.numbers, dtype=np.int64))
        del self.offsets, self.numbers  # what follows takes as much
        ids, splits = np.frombuffer(self.ids, dtype=np.int64), np.frombuffer(self.splits, dtype=np.int32)
        np.save(folder / "splits.npy", splits)
        np.save(folder / "repeated.npy", _repeated(ids))
        np.save(folder / "repeated_in_split.npy", _repeated(ids + splits * np.int64(0x9E3779B97F4A7C1)))
        tallies = [[name, vars(tally)] for name, tally in self.tallies.items()]
        names = [name for name in self.codes if name is not None]
        about = {"splits": names, "tallies": tallies, "unreadable": vars(self.unreadable)}
        (folder / "about.json").write_text(json.dumps(about))


def _split_of(row: Row) -> str | None:
    split = row.get("split")
    return split if isinstance(split, str) else None


def _repeated(keys: np.ndarray) -> np.ndarray:
    """Indices of the keys that an earlier one equals, in their order."""
    ordered = np.sort(keys)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    if not len(twice):  # as a rule, and then no order of millions is needed
        return np.empty(0, dtype=np.int64)
    place = np.minimum(np.searchsorted(twice, keys), len(twice) - 1)
    found = np.flatnonzero(twice[place] == keys)
    order = found[np.argsort(keys[found], kind="stable")]
    again = np.flatnonzero(keys[order][1:] == keys[order][:-1]) + 1
    return np.sort(order[again])


class RowFile(RowSource):
    """The rows of an index. split: ids are unique within this one; None: in the whole file. path: the manifest's."""

    def __init__(self, folder: Path, *, path: Path, split: str | None) -> None:
        self.folder, self.path, self.split, self.identity = folder, path, split, folder.name
        about = json.loads((folder / "about.json").read_text())
        self.splits: list[str] = about["splits"]
        self.tallies = {name: Tally(**tally) for name, tally in about["tallies"]}
        self.unreadable = Tally(**about["unreadable"])
        self._open()

    def _open(self) -> None:
        self.offsets = np.asarray(np.load(self.folder / "offsets.npy", mmap_mode="r"))
        self.numbers = np.load(self.folder / "numbers.npy", mmap_mode="r")
        self.columns = {"split": np.load(self.folder / "splits.npy", mmap_mode="r")}
        where = "" if self.split is None else "_in_split"
        self.repeated = np.asarray(np.load(self.folder / f"repeated{where}.npy", mmap_mode="r"))
        self.file = (self.folder / "rows.jsonl").open("rb", buffering=0)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is open or memory-mapped, which would be copied."""
        gone = ("offsets", "numbers", "columns", "repeated", "file")
        return {name: value for name, value in vars(self).items() if name not in gone}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def read(self, index: int) -> Row:
        start, end = self.offsets[index : index + 2].tolist()
        row = load_row(os.pread(self.file.fileno(), end - start, start))
        found = bisect_left(self.repeated, index)
        if found < len(self.repeated) and self.repeated[found] == index:
            row["id"] = f"{row['id']} ({self.path}:{self.numbers[index]})"
        return row

    def bad(self) -> list[str]:
        """What is wrong with each bad row of the split, the first said for all; one that cannot be read is of every split."""
        own = [tally for name, tally in self.tallies.items() if self.split in (None, name)]
        return [tally.first for tally in [self.unreadable, *own] for _ in range(tally.bad)]
