"""Folders of recordings or images with a table of them, as Hugging Face's audiofolder and imagefolder: metadata.csv, .jsonl or
.parquet with the column file_name, relative to the table."""

from pathlib import Path

from datamodules.formats.entries import BadRow, Entries, Format, Reading, Row
from datamodules.formats.folders import named_file
from datamodules.formats.json_lines import JSON_LINES
from datamodules.formats.parquet import PARQUET
from datamodules.formats.table import csv_rows
from datamodules.formats.text_file import first_line, inner_suffix

TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
#: Columns under which others keep our keys, by shape; the first that is there.
TEXTS: dict[str, dict[str, tuple[str, ...]]] = {
    "speech": {"text": ("text", "transcription", "transcript", "sentence", "normalized_text")},
    "ocr": {"text": ("text", "ground_truth")},
    "image_text": {"caption": ("captions", "caption", "text")},
}


def _recognises(path: Path) -> bool:
    table = _table(path)
    if table is None:
        return False
    return table.suffix == ".parquet" or "file_name" in first_line(table)


def _table(path: Path) -> Path | None:
    if path.name in TABLES and path.is_file():
        return path
    return next((path / name for name in TABLES if (path / name).is_file()), None)


def _read(path: Path, shape: str, reading: Reading) -> Entries:
    table = _table(path)
    if table is None:
        raise ValueError(f"{path}: no {', '.join(TABLES)}")
    folder, media = table.parent.absolute(), "audio" if shape == "speech" else "image"
    if inner_suffix(table) == ".csv":
        entries = csv_rows(table, needed=(("file_name",),), reading=Reading())
    else:
        entries = (JSON_LINES if table.suffix == ".jsonl" else PARQUET).read(table, shape, reading)
    for number, entry in entries:
        place = number if path.is_file() else f"{table.name}{', row ' if table.suffix == '.parquet' else ':'}{number}"
        yield place, _with_keys(entry, folder, media, shape) if isinstance(entry, dict) else entry


def _with_keys(row: Row, folder: Path, media: str, shape: str) -> Row | BadRow:
    """The row with our keys next to those that it has."""
    row.setdefault("id", row.get("file_name"))
    if isinstance(row.get("file_name"), str):
        file = named_file(folder, row["file_name"])
        if isinstance(file, BadRow):
            return file
        row[media] = file
    for key, names in TEXTS.get(shape, {}).items():
        found = next((name for name in names if name in row), None)
        if found is not None and found not in (key, "captions"):
            row[key] = row[found]
    return row


METADATA_FOLDER = Format(
    name="metadata", read=_read, recognises=_recognises, folders=True, shapes=("speech", "image_text", "ocr")
)
