"""Opening very many rows: python -m benchmarks.data.opening SHAPE ROWS WORKERS BATCH ROOT

What a stage does with rows whose index and columns are known, but for the rows themselves: they are computed from their number
instead of read, and columns have one value. So ten million rows of media need no disk, and time and memory of opening, of the
first batch and of restoring a position are those of a real data set. It prints one line of JSON.
"""

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data.memory import PeakMemory, processor_seconds
from benchmarks.data.rows import data_of
from benchmarks.data.shapes import MEDIUM, NUMBER, TEXT, RowShape, row_shapes
from datamodules.base import DataModule
from datamodules.lazy_rows import LazyRows, Row, RowSource

WORDS = "that with have this from they"


class ComputedRows(RowSource):
    """Rows by number. Their columns are files in `folder`, memory-mapped as those of a real source."""

    def __init__(self, shape: RowShape, rows: int, folder: Path) -> None:
        self.shape, self.rows, self.folder = shape, rows, folder
        self.identity, self.splits = f"computed-{shape.name}-{rows}", []
        self.template = shape.template.replace(TEXT, WORDS).replace(MEDIUM, shape.write_medium(folder))
        for name, dtype, value in (("split", "<i4", -1), ("seconds", "<f4", 4.0)):
            np.save(folder / f"{name}.npy", np.full(rows, value, dtype=dtype))
        self._open()

    def _open(self) -> None:
        names = ("split", "seconds") if self.shape.name == "speech" else ("split",)
        self.columns = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in names}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "columns"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def __len__(self) -> int:
        return self.rows

    def read(self, index: int) -> Row:
        row: Row = json.loads(self.template.replace(NUMBER, f"{index:09d}"))
        return row


def computed(source: ComputedRows, cache: Path) -> None:
    """From here on, datamodules read this source, columns have the value of its first row, and summaries are of a few rows."""

    def compute(self: LazyRows, path: Path, name: str, function: Any, dtype: Any) -> None:
        values = np.lib.format.open_memmap(path, "w+", dtype, (len(self.source),))
        values[:] = function(self.read(0))
        values.flush()

    def summary(self: LazyRows, name: str, function: Any, *, key: Any = None) -> Any:
        return function([self[index] for index in range(3)])

    patched: Any = LazyRows
    patched._compute, patched.summary = compute, summary
    opened: Any = DataModule
    opened.read_rows = lambda *_, **__: LazyRows(source, cache=cache)


def main(words: list[str]) -> None:
    shape, root = row_shapes()[words[0]], Path(words[4])
    rows, workers, batch = (int(each) for each in words[1:4])
    logging.disable(logging.WARNING)
    computed(ComputedRows(shape, rows, root), root / "cache")

    def data(consumed: int) -> DataModule:
        made = data_of(shape.name, root, batch=batch, workers=workers, cache=root / "cache", root=root)
        made.load_state_dict({"epoch": 0, "consumed": consumed} if consumed else {})
        return made

    data(0).samples("train")  # columns are computed once
    with PeakMemory() as memory:
        started, used = time.perf_counter(), processor_seconds()
        loader = data(0).train_dataloader()
        opened, used = time.perf_counter(), processor_seconds() - used
        next(iter(loader))
        first = time.perf_counter()
        next(iter(data(rows // 2 // batch * batch).train_dataloader()))
        restored = time.perf_counter()
    found = {
        "shape": shape.name, "rows": rows, "open s": opened - started, "open CPU s": used, "first batch s": first - started,
        "PSS MB": memory.peak / 2**20, "restore s": restored - first,
    }  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
