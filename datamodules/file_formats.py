"""Entries of a data file, whatever its format: JSON lines, a JSON array, CSV with a header row, or lines of text.

The suffix names the format. JSON arrays, CSV and text are the files of micro-omni, the predecessor, read as they are
(docs/data.md); what an entry must hold is the business of manifests.py.
"""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from muomni.short_repr import shown

Row = dict[str, Any]


class BadRow(ValueError):
    """A row that cannot be used, and why."""


Entries = Iterator[tuple[int, Row | BadRow]]

#: Columns of a CSV by shape: one of these sets, in any order and among others.
COLUMNS: dict[str, tuple[tuple[str, ...], ...]] = {
    "text": (("text",), ("prompt", "answer")),
    "image_text": (("image", "caption"),),
    "speech": (("wav", "text"), ("audio", "text")),
    "ocr": (("image", "text"),),
}


def read_entries(path: Path, *, shape: str) -> Entries:
    """(number, entry) of every entry: of lines and records the line that it begins on, of a JSON array its number, from 1.

    An entry that cannot be read is a BadRow in its place. Raises ValueError, naming file and line, for a file that cannot
    be read as a whole: another format or encoding, no array, columns that are missing, a quote that swallows lines.
    """
    reader = READERS.get(path.suffix.lower(), _text_lines if shape == "text" else None)
    if reader is None:
        known = f"a manifest of shape {shape} is .jsonl, .json or .csv"
        raise ValueError(f"{path}: unknown format {path.suffix!r}; {known}")
    _check_encoding(path)
    try:
        yield from reader(path, shape)
    except UnicodeDecodeError as error:
        line = _undecodable_line(path)
        raise ValueError(f"{path}:{line}: not UTF-8 ({error.reason}); save the file as UTF-8") from error


def entry_place(path: Path, number: int) -> str:
    """How messages name an entry: FILE:LINE, or of a JSON array FILE, entry NUMBER."""
    return f"{path}, entry {number}" if path.suffix.lower() == ".json" else f"{path}:{number}"


def _check_encoding(path: Path) -> None:
    """Raise ValueError for UTF-16 or UTF-32 without a mark at its beginning, which could pass for UTF-8 full of zeros."""
    with path.open("rb") as file:
        beginning = file.read(4096)
    if beginning.count(0) > len(beginning) // 4:
        raise ValueError(f"{path}:1: not UTF-8 (every other byte is zero: UTF-16?); save the file as UTF-8")


def _undecodable_line(path: Path) -> int:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return number


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, as they are but for their end (any of \\n, \\r\\n, \\r); with or without a byte order mark.

    What else Unicode calls a line separator (U+0085, U+2028, a form feed) is a character of the line.
    """
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.isspace():
                yield number, line.removesuffix("\n")


def _text_lines(path: Path, shape: str) -> Entries:
    for index, (number, line) in enumerate(_lines(path)):
        if index == 0 and path.suffix.lower() != ".txt" and isinstance(_json_object(line), dict):
            remedy = "name the file .jsonl (or .txt, if it is the text itself)"
            raise ValueError(f"{path}:{number}: a line of JSON: {remedy}")
        yield number, {"text": line}


def _json_lines(path: Path, shape: str) -> Entries:
    for number, line in _lines(path):
        yield number, _json_object(line.strip().lstrip("\ufeff"))  # the mark: of files that were joined


def _json_object(line: str) -> Row | BadRow:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        return BadRow(f"not JSON ({error.msg} at column {error.colno})")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets in brackets in ..
        return BadRow(f"not JSON that can be read ({error})")
    return row if isinstance(row, dict) else BadRow("not a JSON object (an array of them is a .json file)")


def _json_array(path: Path, shape: str) -> Entries:
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        hint = "; an object a line is a .jsonl file" if error.msg == "Extra data" else ""
        raise ValueError(f"{path}:{error.lineno}: not JSON ({error.msg} at column {error.colno}){hint}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: not JSON that can be read ({error})") from error
    if not isinstance(entries, list):
        raise ValueError(
            f"{path}: not a JSON array; a .json manifest is an array of objects, a .jsonl an object a line"
        )
    for number, entry in enumerate(entries, start=1):
        yield number, entry if isinstance(entry, dict) else BadRow("not a JSON object")


def _csv_rows(path: Path, shape: str) -> Entries:
    """Rows by the header's names; an empty cell is an error in a needed column and a missing key in another."""
    records = _csv_records(path)
    line, header = next(records, (1, BadRow("no header row; the first line names the columns")))
    if isinstance(header, BadRow):
        raise ValueError(f"{path}:{line}: {header}")
    names = [name.strip() for name in header]
    needed = _needed_columns(names, shape, where=f"{path}:{line}")
    for number, cells in records:
        if isinstance(cells, BadRow):
            yield number, cells
        elif len(cells) != len(names):
            yield number, BadRow(f"cells: {len(cells)}, columns: {len(names)}; quote what holds a comma")
        else:
            row = {name: cell for name, cell in zip(names, cells, strict=True) if name and cell.strip()}
            empty = [name for name in needed if name not in row]
            yield number, BadRow(f"empty cell in column {shown(empty[0])}") if empty else row


def _needed_columns(names: list[str], shape: str, *, where: str) -> tuple[str, ...]:
    if shape not in COLUMNS:
        raise ValueError(f"{where}: a manifest of shape {shape} cannot be CSV; it is .jsonl or .json")
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise ValueError(f"{where}: two columns are named {shown(twice[0])}; rename one")
    for needed in COLUMNS[shape]:
        if set(needed) <= set(names):
            return needed
    wanted, found = " or ".join(map(",".join, COLUMNS[shape])), shown(",".join(names), most=300)
    raise ValueError(f"{where}: the header row must name the columns {wanted}; it reads {found}")


def _csv_records(path: Path) -> Iterator[tuple[int, list[str] | BadRow]]:
    """(line that it begins on, cells) of each record that is not a blank line.

    A malformed record of one line costs that line. One that breaks over lines has swallowed an unknown number of others,
    so that no count of bad rows would be true: it is an error.
    """
    csv.field_size_limit(sys.maxsize)  # of a cell: a book is one, too
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if reader.line_num > line:
                    what = f"a quoted field begins here and does not end well ({error} at line {reader.line_num})"
                    raise ValueError(f"{path}:{line}: {what}; close it, and double quotes inside it") from error
                yield line, BadRow(f"not CSV ({error}); double quotes inside a quoted field")
                continue
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield line, cells


READERS: dict[str, Callable[[Path, str], Entries]] = {".jsonl": _json_lines, ".json": _json_array, ".csv": _csv_rows}
