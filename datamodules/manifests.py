"""Manifests: JSONL files, one object a line, media paths relative to the manifest's folder (or absolute).

Shapes: text {"text"} or {"prompt", "answer"}, image_text {"image", "captions": [..] or "caption"}, speech {"audio", "text"},
sft {"messages"}. A plain `.txt` file is a text manifest with a sample a line. A row that cannot be used is skipped,
counted and reported; more than 1 % of them is an error.
"""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

MOST_BAD = 0.01
Row = dict[str, Any]


class BadRow(ValueError):
    """A row that cannot be used, and why."""


def read_manifest(path: Path | str, *, shape: str, split: str | None = None) -> list[Row]:
    """Rows of a manifest, media paths made absolute, each with an `id`.

    split: keep only rows whose "split" is this; None keeps all.
    Raises FileNotFoundError for a missing manifest, ValueError naming file and line when over 1 % of the rows are bad or
    when no row is left.
    """
    path = Path(path)
    if shape not in CHECKS:
        raise ValueError(f"unknown manifest shape {shape!r}; available: {', '.join(CHECKS)}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such manifest")
    rows: list[Row] = []
    bad: list[str] = []
    seen = 0
    for number, line in _lines(path):
        seen += 1
        try:
            row = _parse(line, shape, plain=path.suffix == ".txt")
            if split is not None and row.get("split") != split:
                continue
            CHECKS[shape](row, path.parent)
        except BadRow as error:
            bad.append(f"{path}:{number}: {error}")
            continue
        row.setdefault("id", f"{path.stem}:{number}")
        rows.append(row)
    report_bad(bad, total=seen, what=str(path))
    if not rows:
        raise ValueError(f"{path}: no rows" + (f" with split {split!r}" if split else ""))
    return rows


def report_bad(bad: list[str], *, total: int, what: str) -> None:
    """Warn of skipped samples; over 1 % of them is a ValueError. Each entry names file, line and reason."""
    if not bad:
        return
    if len(bad) > MOST_BAD * total:
        raise ValueError(f"{what}: {len(bad)} of {total} samples cannot be used (over 1 %); the first: {bad[0]}")
    log.warning("%s: skipped %d of %d samples; the first: %s", what, len(bad), total, bad[0])


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}:{number}: not UTF-8: {error}") from error
            if line:
                yield number, line


def _parse(line: str, shape: str, *, plain: bool) -> Row:
    if plain and shape == "text":
        return {"text": line}
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadRow(f"not JSON ({error.msg} at column {error.colno})") from error
    if not isinstance(row, dict):
        raise BadRow("not a JSON object")
    return row


def _media(row: Row, key: str, folder: Path) -> None:
    if not isinstance(row.get(key), str) or not row[key]:
        raise BadRow(f"no {key!r}")
    media = folder / row[key]
    if not media.is_file():
        raise BadRow(f"missing file {media}")
    row[key] = str(media)


def _text(row: Row, key: str = "text") -> None:
    if not isinstance(row.get(key), str) or not row[key].strip():
        raise BadRow(f"empty or missing {key!r}")


def _check_text(row: Row, folder: Path) -> None:
    if "prompt" in row:
        _text(row, "prompt")
        _text(row, "answer")
    else:
        _text(row)


def _check_image_text(row: Row, folder: Path) -> None:
    if "captions" not in row and "caption" in row:
        row["captions"] = [row["caption"]]
    captions = row.get("captions")
    if not isinstance(captions, list) or not captions or not all(isinstance(c, str) and c.strip() for c in captions):
        raise BadRow("empty or missing 'captions'")
    _media(row, "image", folder)


def _check_speech(row: Row, folder: Path) -> None:
    _text(row)
    _media(row, "audio", folder)


def _check_sft(row: Row, folder: Path) -> None:
    messages = row.get("messages")
    if not isinstance(messages, list) or len(messages) < 2 or not all(isinstance(turn, dict) for turn in messages):
        raise BadRow("'messages' must hold turns: at least a user's and an assistant's")
    if messages[-1].get("role") != "assistant":
        raise BadRow("'messages' must end with the assistant's turn")
    for message in messages:
        if message.get("role") not in ("user", "assistant", "system"):
            raise BadRow(f"unknown role {message.get('role')!r}")
        if isinstance(message.get("content"), str):
            message["content"] = [{"type": "text", "text": message["content"]}]
        if not isinstance(message.get("content"), list) or not message["content"]:
            raise BadRow(f"empty or missing 'content' of the {message['role']}'s turn")
        for item in message["content"]:
            _check_item(item, folder)


def _check_item(item: Any, folder: Path) -> None:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind in ("image", "audio"):
        _media(item, kind, folder)
    elif kind in ("text", "speech"):
        _text(item)
    else:
        raise BadRow(f"unknown content type {kind!r}; known: text, image, audio, speech")


CHECKS: dict[str, Callable[[Row, Path], None]] = {
    "text": _check_text,
    "image_text": _check_image_text,
    "speech": _check_speech,
    "sft": _check_sft,
}
