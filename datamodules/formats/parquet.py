"""Parquet, read by row groups through pyarrow; and Arrow files (IPC), memory-mapped.

Bytes of images and recordings are not read with the rows: a cell is fetched from its row group when it is opened, and the last
groups are kept. Row groups of about a hundred rows, as `datasets` writes them for media, make that cheap.
"""

import logging
import os
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from datamodules.formats.arrow_rows import TableCell, arrow_rows, class_columns, is_blank, media_columns
from datamodules.formats.entries import Entries, Format, Reading
from datamodules.formats.extras import imported, naming
from datamodules.media import file_identity
from muomni.short_repr import shown

log = logging.getLogger(__name__)

BATCH = 1024  # rows that are turned into Python objects together
GROUPS_KEPT = 4
BROKEN_ARROW = "cannot be read as Arrow, damaged or cut off"
LARGE_GROUP = 256 << 20  # bytes of a column in a row group, of which one cell is wanted


@dataclass(frozen=True, slots=True)
class ParquetCell(TableCell):
    """A cell of a Parquet file."""

    def fetch(self) -> Any:
        ends = _opened(self.container, file_identity(self.container))[1]
        group = bisect_right(ends, self.row)
        with _LOCK:
            column = _column(self.container, file_identity(self.container), group, self.column)
        return column[self.row - (ends[group - 1] if group else 0)].as_py()

    def identity(self) -> str:
        return f"{file_identity(self.container)}\0{self.row}\0{self.column}\0{self.item}"


@dataclass(frozen=True, slots=True)
class ArrowCell(TableCell):
    """A cell of an Arrow file."""

    def fetch(self) -> Any:
        return _mapped(self.container, file_identity(self.container)).column(self.column)[self.row].as_py()

    def identity(self) -> str:
        return f"{file_identity(self.container)}\0{self.row}\0{self.column}\0{self.item}"


_LOCK = Lock()  # threads that decode neighbours wait for one reading of their group
os.register_at_fork(after_in_child=_LOCK._at_fork_reinit)  # type: ignore[attr-defined]


@lru_cache(maxsize=64)
def _opened(path: str, identity: str) -> tuple[Any, list[int]]:
    """The file, and the row after each group's last. Raises ValueError naming it."""
    parquet = imported("pyarrow.parquet", path)
    with naming(path, "cannot be read as Parquet, damaged or cut off"):
        file = parquet.ParquetFile(path, memory_map=True)
    ends, total = [], 0
    for group in range(file.metadata.num_row_groups):
        total += file.metadata.row_group(group).num_rows
        ends.append(total)
    return file, ends


@lru_cache(maxsize=GROUPS_KEPT)
def _column(path: str, identity: str, group: int, column: str) -> Any:
    file, _ = _opened(path, identity)
    with naming(path, _broken(group)):
        return file.read_row_group(group, columns=[column], use_threads=False).column(0)


@lru_cache(maxsize=64)
def _mapped(path: str, identity: str) -> Any:
    """The table of an Arrow file or stream."""
    pa = imported("pyarrow", path)
    with naming(path, BROKEN_ARROW):
        source = pa.memory_map(path)
        try:
            return pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_stream(source).read_all()


def _broken(group: int) -> str:
    return f"row group {group + 1} cannot be read, damaged or cut off"


def _projected(file: Any, group: int, media: dict[str, str]) -> list[str]:
    """Columns to read with the rows of a group: of structs only the paths, where all cells have bytes."""
    metadata = file.metadata.row_group(group)
    chunks = {metadata.column(n).path_in_schema: metadata.column(n) for n in range(metadata.num_columns)}
    names: list[str] = []
    for field in file.schema_arrow:
        content, path = chunks.get(f"{field.name}.bytes"), chunks.get(f"{field.name}.path")
        full = content is not None and content.statistics is not None and content.statistics.null_count == 0
        names.append(
            f"{field.name}.path" if media.get(field.name) == "struct" and full and path is not None else field.name
        )
    return names


def _read_parquet(path: Path, shape: str, reading: Reading) -> Entries:
    where = str(path.absolute())
    file, ends = _opened(where, file_identity(where))
    names = file.schema_arrow.names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path}: two columns are named {shown(twice[0])}; rename one")
    media, classes = media_columns(file.schema_arrow), class_columns(file.schema_arrow)
    _warn_of_large_groups(path, file, media)

    def cell(row: int, column: str, item: int | None, name: str | None) -> ParquetCell:
        return ParquetCell(where, row, column, item, name or "")

    for group in range(len(ends)):
        number = ends[group - 1] if group else 0
        with naming(path, _broken(group)):
            columns = _projected(file, group, media)
            for batch in file.iter_batches(BATCH, row_groups=[group], columns=columns, use_threads=False):
                for row in arrow_rows(batch, first=number, cell=cell, classes=classes):
                    number += 1
                    if not is_blank(row, shape, reading):
                        yield number, row


def _warn_of_large_groups(path: Path, file: Any, media: dict[str, str]) -> None:
    sizes = [
        group.column(n).total_uncompressed_size
        for group in map(file.metadata.row_group, range(file.metadata.num_row_groups))
        for n in range(group.num_columns)
        if group.column(n).path_in_schema.partition(".")[0] in media
    ]
    if max(sizes, default=0) > LARGE_GROUP:
        what = f"row groups of up to {max(sizes) >> 20} MB"
        log.warning("%s: %s, of which each image or recording needs one: write it with row_group_size=100", path, what)


def _read_arrow(path: Path, shape: str, reading: Reading) -> Entries:
    where = str(path.absolute())
    table = _mapped(where, file_identity(where))
    classes = class_columns(table.schema)

    def cell(row: int, column: str, item: int | None, name: str | None) -> ArrowCell:
        return ArrowCell(where, row, column, item, name or "")

    number = 0
    with naming(path, BROKEN_ARROW):
        for batch in table.to_batches(BATCH):
            for row in arrow_rows(batch, first=number, cell=cell, classes=classes):
                number += 1
                if not is_blank(row, shape, reading):
                    yield number, row


PLACE = "{path}, row {number}"
PARQUET = Format(name="parquet", read=_read_parquet, suffixes=(".parquet",), place=PLACE)
ARROW = Format(name="arrow", read=_read_arrow, suffixes=(".arrow",), place=PLACE)
