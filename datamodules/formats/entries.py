"""What every format of data is: a name, how it is recognised, and a function that reads its entries.

An entry is a row (a dict of text, numbers, media) under a number: of a file the line or the entry, of a folder "FILE:LINE" inside
it. What an entry must hold is the business of manifests.py.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class BadRow(ValueError):
    """A row that cannot be used, and why."""


Entries = Iterator[tuple[int | str, Row | BadRow]]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the user wants data to be read (docs/data.md).

    format: the name of a format, None: it is recognised. columns: our key -> the data's own name of it. class_caption: the
    caption of an image of which only the class is known.
    """

    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    class_caption: str = "a photo of a {class}"

    def __post_init__(self) -> None:
        if "{class}" not in self.class_caption:
            raise ValueError(f"data.class_caption={self.class_caption!r}: must hold {{class}}, where the name goes")

    def renamed(self, row: Row) -> Row:
        """The row under our keys; what else had one of them is dropped."""
        if not self.columns:
            return row
        theirs = {*self.columns.values()}
        others = {key: value for key, value in row.items() if key not in theirs and key not in self.columns}
        return others | {key: row[name] for key, name in self.columns.items() if name in row}


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of data.

    Args:
        name: as `data.format=` says it. read: (path, shape, reading) -> entries, in the data's own order; raises ValueError
            naming the file and the line where the whole cannot be read.
        suffixes: of its files. recognises: True if a file or folder is one of it, by names and first bytes alone.
        folders: True if it reads them. shapes: that it can hold; None: any. place: how messages name an entry.
    """

    name: str
    read: Callable[[Path, str, Reading], Entries]
    suffixes: tuple[str, ...] = ()
    recognises: Callable[[Path], bool] | None = None
    folders: bool = False
    shapes: tuple[str, ...] | None = None
    place: str = "{path}:{number}"
