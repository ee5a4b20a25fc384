"""What every format of data is: a name, how it is recognised, and a function that reads its entries.

An entry is a row (a dict of text, numbers, media) under a number: of a file the line or the entry, of a folder "FILE:LINE" inside
it. What an entry must hold is the business of manifests.py.
"""

import hashlib
import os
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
    caption of an image of which only the class is known. split_shares: {"val": .., "test": ..}: shares of the rows without a
    "split" that are of these splits, the others being of "train". labelled: rows of image_text and speech may have the image's
    class or the speaker alone, and then no captions and an empty text.
    """

    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    class_caption: str = "a photo of a {class}"
    split_shares: Mapping[str, float] = field(default_factory=dict, repr=False)
    labelled: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        shares = self.split_shares
        if (
            not set(shares) <= {"val", "test"}
            or not all(0 < share < 1 for share in shares.values())
            or sum(shares.values()) >= 1
        ):
            raise ValueError(f"data.split_shares={dict(shares)}: shares of val and test are needed, together below 1")
        if "{class}" not in self.class_caption:
            raise ValueError(f"data.class_caption={self.class_caption!r}: must hold {{class}}, where the name goes")

    def renamed(self, row: Row) -> Row:
        """The row under our keys; what else had one of them is dropped."""
        if not self.columns:
            return row
        theirs = {*self.columns.values()}
        others = {key: value for key, value in row.items() if key not in theirs and key not in self.columns}
        return others | {key: row[name] for key, name in self.columns.items() if name in row}

    def identity(self) -> str:
        """Text that tells it from others, for the names of caches."""
        shares = str(dict(sorted(self.split_shares.items()))) if self.split_shares else ""
        return f"{self}{shares}{' labelled' if self.labelled else ''}"

    def with_split(self, row: Row, number: int | str) -> Row:
        """The row with the split that its share gives it, by a hash of its medium's name, its id, or else its number: all rows
        of one picture are of one split, and a row keeps its split whatever is added to the data."""
        if isinstance(row.get("split"), int):  # as data.train_split=1 names it, and as a table has it
            row = row | {"split": str(row["split"])}
        if not self.split_shares or row.get("split") is not None:
            return row
        medium = next((row[key] for key in ("image", "audio") if row.get(key) is not None), None)
        name = os.path.basename(str(getattr(medium, "name", medium))) if medium is not None else row.get("id", number)
        position = int.from_bytes(hashlib.blake2b(str(name).encode(), digest_size=8).digest()) / 2**64
        for split, share in sorted(self.split_shares.items()):
            if position < share:
                return row | {"split": split}
            position -= share
        return row | {"split": "train"}


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
