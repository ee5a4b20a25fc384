"""Plain text: a sample a line, as it is; blank lines are left out."""

import json
from pathlib import Path

from datamodules.formats.entries import Entries, Format, Reading
from datamodules.formats.text_file import inner_suffix, lines


def _read(path: Path, shape: str, reading: Reading) -> Entries:
    for index, (number, line) in enumerate(lines(path)):
        if index == 0 and inner_suffix(path) != ".txt" and _is_object(line):
            remedy = "name the file .jsonl (or .txt, if it is the text itself)"
            raise ValueError(f"{path}:{number}: a line of JSON: {remedy}")
        yield number, {"text": line}


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


TEXT_LINES = Format(name="text", read=_read, shapes=("text",))
