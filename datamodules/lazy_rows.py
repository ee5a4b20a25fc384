"""Rows that stay on the disk: a Sequence that reads a row whenever it is taken.

What a datamodule must know of every row before training (lengths, which are kept) is computed once, with a progress bar, and
kept in the data cache: a column is a memory-mapped file with a number a row, a summary a JSON file. `map_rows`, `column` and
`summary` do the same for rows in a list, where nothing is kept. So ten million rows take no memory and are there at once the
next time.
"""

import hashlib
import json
import os
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from tqdm import tqdm

from datamodules.formats.splits import phase_of
from datamodules.parallel_rows import fill
from muomni.checkpoints.atomic_write import atomic_write, write_text
from muomni.short_repr import shown

Row = dict[str, Any]


class RowSource(ABC):
    """Rows on the disk by number; small, and picklable, so that every worker has one.

    identity: text that names these very rows, usable as the name of a folder. columns: numbers that are known of every row;
    "split" among them is an index of `splits`, or negative.
    """

    identity: str
    columns: dict[str, np.ndarray]
    splits: list[str]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Row:
        """A new dict. Raises ValueError or OSError where it cannot be read."""
        ...

    def of_split(self, split: str | None, phase: str | None = None) -> tuple[np.ndarray | None, Counter[str]]:
        """Numbers of the rows of a split, or of splits that are not for another phase (None: all), and how many rows each other
        split has."""
        codes = range(-1, len(self.splits))  # the first: of rows without a split
        names = [None, *self.splits]
        if split is not None:
            wanted = [code for code, name in zip(codes, names, strict=True) if name == split]
        elif phase is not None:
            wanted = [code for code, name in zip(codes, names, strict=True) if phase_of(name) in (None, phase)]
        else:
            return None, Counter()
        if len(wanted) == len(names):
            return None, Counter()
        counts = np.bincount(self.columns["split"] + 1, minlength=len(names)).tolist()
        others = {shown(names[code + 1], most=60): counts[code + 1] for code in codes if code not in wanted}
        chosen = np.flatnonzero(np.isin(self.columns["split"], wanted)).astype(np.int32)
        return chosen, Counter({name: count for name, count in others.items() if count})


class LazyRows(Sequence[Row]):
    """Some rows of a source, in its order.

    Args:
        source: of the rows. cache: folder in which columns and summaries are kept. chosen: numbers of the rows; None: all.
        steps: what is done to each row that is read. key: JSON text that tells these steps from others.
    """

    def __init__(
        self,
        source: RowSource,
        *,
        cache: Path,
        chosen: np.ndarray | None = None,
        steps: tuple[Callable[[Row], Row], ...] = (),
        key: str = "",
    ) -> None:
        self.source, self.cache, self.chosen, self.steps, self.key = source, cache, chosen, steps, key

    def __len__(self) -> int:
        return len(self.source) if self.chosen is None else len(self.chosen)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "LazyRows": ...
    def __getitem__(self, index: int | slice) -> "Row | LazyRows":
        if isinstance(index, slice):
            return self.choose(np.arange(len(self), dtype=np.int32)[index])
        index = range(len(self))[index]
        return self.read(int(index if self.chosen is None else self.chosen[index]))

    def read(self, number: int) -> Row:
        """A row by its number in the source."""
        row = self.source.read(number)
        for step in self.steps:
            row = step(row)
        return row

    def choose(self, kept: np.ndarray) -> "LazyRows":
        """The rows where `kept` (len(self)) is True, or whose indices these are."""
        if kept.dtype == bool:
            if kept.all():
                return self
            kept = np.flatnonzero(kept)
        chosen = (kept if self.chosen is None else self.chosen[kept]).astype(np.int32)
        return LazyRows(self.source, cache=self.cache, chosen=chosen, steps=self.steps, key=self.key)

    def mapped(self, step: Callable[[Row], Row], *, key: Any) -> "LazyRows":
        """The rows after `step`, a function of the row alone that can be pickled. key: tells it from others."""
        steps, key = (*self.steps, step), self.key + json.dumps(key, sort_keys=True, default=str)
        return LazyRows(self.source, cache=self.cache, chosen=self.chosen, steps=steps, key=key)

    def known(self, name: str) -> np.ndarray | None:
        """A column of the source, of these rows; None where it has no such column."""
        values = self.source.columns.get(name)
        return values if values is None or self.chosen is None else values[self.chosen]

    def column(self, name: str, function: Callable[[Row], Any], *, dtype: Any, key: Any = None) -> np.ndarray:
        """`function` of every row, a number each. key: JSON that tells it from others of the name."""
        path = self._path(name, key, ".npy")
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary:
                self._compute(temporary, name, function, dtype)
        values = np.load(path, mmap_mode="r")
        return values if self.chosen is None else values[self.chosen]

    def _compute(self, path: Path, name: str, function: Callable[[Row], Any], dtype: Any) -> None:
        """Of all rows of the source, so that another choice of them need not compute it again."""
        values = np.lib.format.open_memmap(path, "w+", dtype, (len(self.source),))
        fill(values, self, function, title=f"{name} (once)")
        values.flush()

    def summary(self, name: str, function: Callable[[Iterable[Row]], Any], *, key: Any = None) -> Any:
        """`function` of all these rows together, something that JSON has."""
        chosen = "" if self.chosen is None else hashlib.blake2b(self.chosen.tobytes(), digest_size=8).hexdigest()
        path = self._path(name, [key, chosen], ".json")
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            found = function(tqdm(self, f"{name} (once)", unit="row", mininterval=1))
            write_text(path, json.dumps(found))
        return json.loads(path.read_text())

    def _path(self, name: str, key: Any, suffix: str) -> Path:
        text = self.key + json.dumps(key, sort_keys=True, default=str)
        digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        return self.cache / "rows" / self.source.identity / f"{name.replace(' ', '-')}-{digest}{suffix}"


def cache_folder(cache: Path | str | None) -> Path:
    """The data cache; None: a folder of the user's below the system's temporary one."""
    return Path(tempfile.gettempdir()) / f"muomni-{os.getuid()}" if cache is None else Path(cache)


def map_rows(rows: Sequence[Row], step: Callable[[Row], Row], *, key: Any = None) -> Sequence[Row]:
    """The rows after `step`, which changes none in place. key: as of `LazyRows.mapped`."""
    return rows.mapped(step, key=key) if isinstance(rows, LazyRows) else [step(row) for row in rows]


def column(
    rows: Sequence[Row], name: str, function: Callable[[Row], Any], *, dtype: Any, key: Any = None
) -> np.ndarray:
    """A number of every row; name and key: as of `LazyRows.column`."""
    if isinstance(rows, LazyRows):
        return rows.column(name, function, dtype=dtype, key=key)
    return np.fromiter(map(function, rows), dtype, len(rows))


def summary(rows: Sequence[Row], name: str, function: Callable[[Iterable[Row]], Any], *, key: Any = None) -> Any:
    """`function` of all rows together, something that JSON has; name and key: as of `LazyRows.summary`."""
    return rows.summary(name, function, key=key) if isinstance(rows, LazyRows) else function(rows)
