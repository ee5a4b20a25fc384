"""A JSON file: an array of objects."""

import json
from pathlib import Path
from typing import Any

from datamodules.formats.entries import BadRow, Entries, Format, Reading
from datamodules.formats.text_file import open_text


def load_json(path: Path) -> Any:
    """What a JSON file holds. Raises ValueError naming file and line where it cannot be read."""
    try:
        with open_text(path) as file:
            return json.loads(file.read())
    except json.JSONDecodeError as error:
        hint = "; an object a line is a .jsonl file" if error.msg == "Extra data" else ""
        raise ValueError(f"{path}:{error.lineno}: not JSON ({error.msg} at column {error.colno}){hint}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: not JSON that can be read ({error})") from error


def _read(path: Path, shape: str, reading: Reading) -> Entries:
    entries = load_json(path)
    if not isinstance(entries, list):
        raise ValueError(
            f"{path}: not a JSON array; a .json manifest is an array of objects, a .jsonl an object a line"
        )
    for number, entry in enumerate(entries, start=1):
        yield number, entry if isinstance(entry, dict) else BadRow("not a JSON object")


JSON_ARRAY = Format(name="json", read=_read, suffixes=(".json",), place="{path}, entry {number}")
