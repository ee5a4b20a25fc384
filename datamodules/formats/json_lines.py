"""JSON lines: an object a line."""

import json
from pathlib import Path

from datamodules.formats.entries import BadRow, Entries, Format, Reading, Row
from datamodules.formats.text_file import lines


def json_object(line: str) -> Row | BadRow:
    """The object that a line holds, or why it holds none."""
    try:
        row = json.loads(line.strip().lstrip("\ufeff"))  # the mark: of files that were joined
    except json.JSONDecodeError as error:
        return BadRow(f"not JSON ({error.msg} at column {error.colno})")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets in brackets in ..
        return BadRow(f"not JSON that can be read ({error})")
    return row if isinstance(row, dict) else BadRow("not a JSON object (an array of them is a .json file)")


def _read(path: Path, shape: str, reading: Reading) -> Entries:
    for number, line in lines(path):
        yield number, json_object(line)


JSON_LINES = Format(name="jsonl", read=_read, suffixes=(".jsonl", ".ndjson"))
