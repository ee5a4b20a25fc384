"""Rows of Arrow tables, as Parquet files and Hugging Face data sets hold them: struct cells {bytes, path} and binary cells are
images or recordings, a ClassLabel is the name of its class."""

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from datamodules.formats.entries import Reading, Row
from datamodules.media import StoredMedia

Cell = Callable[[int, str, int | None, str | None], StoredMedia]
"""(row, column, index in a list or None, the path that the cell names) -> its media."""


@dataclass(frozen=True, slots=True)
class TableCell(StoredMedia):
    """A cell of a table, counted from 0. A subclass fetches it.

    container: file, folder, or name of a data set. item: index in a cell that is a list, None: it is none. file_name: that the
    cell has for its content.
    """

    container: str
    row: int
    column: str
    item: int | None
    file_name: str

    @property
    def name(self) -> str:
        which = "" if self.item is None else f"[{self.item}]"
        file_name = f"/{self.file_name}" if self.file_name else ""
        return f"{self.container}, row {self.row + 1}, {self.column}{which}{file_name}"

    def read(self) -> bytes:
        value = self.fetch()
        value = value[self.item] if self.item is not None else value
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise ValueError(f"{self.name}: holds no bytes")
        return data

    @abstractmethod
    def fetch(self) -> Any:
        """The value of the whole cell."""


def media_columns(schema: Any) -> dict[str, str]:
    """Column -> "struct", "list" (of structs) or "binary", of an Arrow schema's columns that hold files."""
    import pyarrow as pa

    def is_media(type_: Any) -> bool:
        return pa.types.is_struct(type_) and any(field.name == "bytes" and is_binary(field.type) for field in type_)

    def is_binary(type_: Any) -> bool:
        return pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_binary_view(type_)

    found: dict[str, str] = {}
    for field in schema:
        listed = pa.types.is_list(field.type) or pa.types.is_large_list(field.type)
        if is_media(field.type):
            found[field.name] = "struct"
        elif is_binary(field.type):
            found[field.name] = "binary"
        elif listed and is_media(field.type.value_type):
            found[field.name] = "list"
    return found


def class_columns(schema: Any) -> dict[str, list[str]]:
    """Column -> names of its classes, as `datasets` notes them in a schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            name: [str(each) for each in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def arrow_rows(table: Any, *, first: int, cell: Cell, classes: dict[str, list[str]]) -> Iterator[Row]:
    """Rows of a table (or of a batch), keys without a value left out. Of media columns a struct may have been left without its
    bytes. first: number of its first row, from 0. classes: `class_columns`."""
    media = media_columns_without_bytes(table.schema) | media_columns(table.schema)
    plain = table.select([name for name in table.schema.names if name not in media])
    values = {name: _media_cells(table.column(name), form, name, first, cell) for name, form in media.items()}
    for number, row in enumerate(plain.to_pylist()):
        row = {key: _plain(value) for key, value in row.items() if value is not None and not isinstance(value, bytes)}
        row |= {name: cells[number] for name, cells in values.items() if cells[number] is not None}
        for name, names in classes.items():
            label = row.get(name)
            if isinstance(label, int) and 0 <= label < len(names):
                row.setdefault("class", names[label].replace("_", " "))
        yield row


def is_blank(row: Row, shape: str, reading: Reading) -> bool:
    """True for a document without text, which is left out like a blank line of a text file (WikiText is full of them)."""
    text = row.get(reading.columns.get("text", "text"))
    return shape == "text" and isinstance(text, str) and not text.strip()


def media_columns_without_bytes(schema: Any) -> dict[str, str]:
    """Struct columns of which only the path was read."""
    import pyarrow as pa

    return {
        field.name: "path"
        for field in schema
        if pa.types.is_struct(field.type) and [each.name for each in field.type] == ["path"]
    }


def _media_cells(column: Any, form: str, name: str, first: int, cell: Cell) -> list[Any]:
    """Of each row a StoredMedia, a path (of a cell without bytes that names one), a list of either, or None."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if form == "binary":
        return [
            cell(first + n, name, None, None) if ok else None for n, ok in enumerate(pc.is_valid(column).to_pylist())
        ]
    if form == "list":
        return [
            None
            if items is None
            else [cell(first + n, name, k, each.get("path")) for k, each in enumerate(items) if each]
            for n, items in enumerate(column.to_pylist())
        ]
    fields = [each.name for each in column.type]
    paths = pc.struct_field(column, "path").to_pylist() if "path" in fields else [None] * len(column)
    if form == "path":
        filled = [True] * len(column)
    else:
        filled = pc.is_valid(pc.struct_field(column, "bytes")).to_pylist()
    valid = pc.is_valid(column).to_pylist()
    return [
        None if not there else cell(first + n, name, None, path) if has else path
        for n, (there, has, path) in enumerate(zip(valid, filled, paths, strict=True))
    ]


def _plain(value: Any) -> Any:
    """A value as JSON has it, so that rows are the same in every format: of dates, decimals and the like their text. Arrow gives
    every object of a list the keys of all: those without a value go, and so do bytes, which are no media there."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if each is not None and not isinstance(each, bytes)}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value if not isinstance(each, bytes)]
    return value if value is None or isinstance(value, str | int | float) else str(value)
