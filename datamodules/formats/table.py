"""Tables with a header row: CSV with quotes, and TSV as the corpora have it, tabs without quotes."""

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from datamodules.formats.entries import BadRow, Entries, Format, Reading
from datamodules.formats.text_file import lines, open_text
from muomni.short_repr import shown

#: Columns of a table by shape: one of these sets, in any order and among others.
COLUMNS: dict[str, tuple[tuple[str, ...], ...]] = {
    "text": (("text",), ("prompt", "answer")),
    "image_text": (("image", "caption"), ("image", "class")),
    "speech": (("wav", "text"), ("audio", "text")),
    "ocr": (("image", "text"),),
}
Records = Iterator[tuple[int, list[str] | BadRow]]


def csv_rows(path: Path, *, needed: Sequence[tuple[str, ...]], reading: Reading) -> Entries:
    """Rows of a CSV by the header's names; an empty cell is an error in a needed column and a missing key in another.
    needed: of
    our keys, those of one of these sets must be there."""
    return _rows(path, _csv_records(path), needed=needed, reading=reading, quotes=True)


def tsv_rows(path: Path, *, needed: Sequence[tuple[str, ...]], reading: Reading) -> Entries:
    """The same of a file whose cells are parted by tabs; a quote is a character like others."""
    records = ((number, line.split("\t")) for number, line in lines(path))
    return _rows(path, records, needed=needed, reading=reading, quotes=False)


def _rows(
    path: Path, records: Records, *, needed: Sequence[tuple[str, ...]], reading: Reading, quotes: bool
) -> Entries:
    line, header = next(records, (1, BadRow("no header row; the first line names the columns")))
    if isinstance(header, BadRow):
        raise ValueError(f"{path}:{line}: {header}")
    names = [name.strip() for name in header]
    musts = _needed_columns(names, needed, reading, where=f"{path}:{line}")
    remedy = "quote what holds a comma" if quotes else "a tab parts them"
    for number, cells in records:
        if isinstance(cells, BadRow):
            yield number, cells
        elif len(cells) != len(names):
            yield number, BadRow(f"cells: {len(cells)}, columns: {len(names)}; {remedy}")
        else:
            row = {name: cell for name, cell in zip(names, cells, strict=True) if name and cell.strip()}
            empty = [reading.columns.get(name, name) for name in musts if name not in reading.renamed(row)]
            yield number, BadRow(f"empty cell in column {shown(empty[0])}") if empty else row


def _needed_columns(
    names: list[str], needed: Sequence[tuple[str, ...]], reading: Reading, *, where: str
) -> tuple[str, ...]:
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise ValueError(f"{where}: two columns are named {shown(twice[0])}; rename one")
    for each in needed:
        if set(each) <= set(reading.renamed(dict.fromkeys(names))):
            return each
    wanted, found = " or ".join(map(",".join, needed)), shown(",".join(names), most=300)
    parted = "; commas part the columns of .csv, tabs those of .tsv" if len(names) == 1 else ""
    raise ValueError(f"{where}: the header row must name the columns {wanted}; it reads {found}{parted}")


def _csv_records(path: Path) -> Records:
    """(line that it begins on, cells) of each record that is not a blank line.

    A malformed record of one line costs that line. One that breaks over lines has swallowed an unknown number of others,
    so that no count of bad rows would be true: it is an error.
    """
    csv.field_size_limit(sys.maxsize)  # of a cell: a book is one, too
    with open_text(path, newline="") as file:
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


def _needed(path: Path, shape: str) -> tuple[tuple[str, ...], ...]:
    if shape not in COLUMNS:
        raise ValueError(f"{path}:1: a manifest of shape {shape} cannot be CSV; it is .jsonl or .json")
    return COLUMNS[shape]


def _read_csv(path: Path, shape: str, reading: Reading) -> Entries:
    return csv_rows(path, needed=_needed(path, shape), reading=reading)


def _read_tsv(path: Path, shape: str, reading: Reading) -> Entries:
    return tsv_rows(path, needed=_needed(path, shape), reading=reading)


CSV = Format(name="csv", read=_read_csv, suffixes=(".csv",))
TSV = Format(name="tsv", read=_read_tsv, suffixes=(".tsv",))
