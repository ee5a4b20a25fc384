"""Training texts of n-gram models: text files or manifests."""

import json
from collections.abc import Iterator
from pathlib import Path

from muomni.user_path import user_path


def read_texts(path: str | Path, *, lowercase: bool, split: str | None = None) -> Iterator[str]:
    """The lines of a text file, or the field "text" of a .jsonl manifest, of the rows whose "split" is this. Errors name file
    and line."""
    path = user_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such text: {path}")
    if split is not None and path.suffix != ".jsonl":
        raise ValueError(f"{path}: split={split}: only a .jsonl manifest has splits")
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if path.suffix == ".jsonl" and line.strip():
            try:
                row = json.loads(line)
                line = row["text"] if split is None or row.get("split") == split else ""
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}:{number}: not an object with the field 'text'") from error
        if line.strip():
            yield " ".join((line.lower() if lowercase else line).split())
