"""Manifests: data files whose entries have one of a few shapes, with media paths relative to a root.

Shapes: text {"text"} or {"prompt", "answer"}, image_text {"image", "captions": [..] or "caption"}, speech {"audio" or
"wav", "text"}, ocr {"image", "text"}, sft {"messages"}. Formats: entries.py. An entry that cannot be used is skipped,
counted and reported; more than 1 % of them is an error. docs/data.md has an example of each.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datamodules.entries import BadRow, Row, entry_place, read_entries

log = logging.getLogger(__name__)

MOST_BAD = 0.01


def read_manifest(
    path: Path | str, *, shape: str, split: str | None = None, root: Path | str | None = None
) -> list[Row]:
    """Rows of a manifest, media paths made absolute, each with an `id`; the same whatever the file's format.

    split: keep only rows whose "split" is this; None keeps all.
    root: of the media paths: `p` is root/p, root/images/p, parent of root/p or p, the first that is a file. None: the
    manifest's own folder.
    Raises FileNotFoundError for a missing manifest or root, ValueError naming file and line when over 1 % of the split's
    rows are bad (one that cannot be read counts in every split) or when no row is left.
    """
    path = Path(path)
    if shape not in CHECKS:
        raise ValueError(f"unknown manifest shape {shape!r}; available: {', '.join(CHECKS)}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such manifest")
    if root is not None and not Path(root).is_dir():
        raise FileNotFoundError(f"data.root={root}: no such folder")
    folder = Path(os.path.abspath(path.parent if root is None else root))
    rows: list[Row] = []
    bad: list[str] = []
    for number, entry in read_entries(path, shape=shape):
        try:
            if isinstance(entry, BadRow):
                raise entry
            if split is not None and entry.get("split") != split:
                continue
            CHECKS[shape](entry, folder)
        except BadRow as error:
            bad.append(f"{entry_place(path, number)}: {error}")
            continue
        entry.setdefault("id", f"{path.stem}:{number}")
        rows.append(entry)
    report_bad(bad, total=len(rows) + len(bad), what=str(path))
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


def find_media(name: str, root: Path) -> str:
    """Absolute path of a media file: root/name, root/images/name, parent of root/name, name, in this order; an absolute
    name is itself. Raises BadRow where none is a file."""
    for place in (root / name, root / "images" / name, root.parent / name, Path(name)):
        # unlike Path.is_file, False also for what cannot be a name, as a text that is too long
        if os.path.isfile(place):
            return str(place.absolute())
    if Path(name).is_absolute():
        raise BadRow(f"missing file {name}")
    raise BadRow(f"missing file {name}: not in {root}, its images/, its parent or here; set data.root=DIR")


def _media(row: Row, key: str, root: Path) -> None:
    if not isinstance(row.get(key), str) or not row[key].strip():
        raise BadRow(f"no {key!r}")
    row[key] = find_media(row[key].strip(), root)


def _text(row: Row, key: str = "text") -> None:
    if not isinstance(row.get(key), str) or not row[key].strip():
        raise BadRow(f"empty or missing {key!r}")


def _check_text(row: Row, root: Path) -> None:
    if "prompt" in row:
        _text(row, "prompt")
        _text(row, "answer")
    else:
        _text(row)


def _check_image_text(row: Row, root: Path) -> None:
    if "captions" not in row and "caption" in row:
        row["captions"] = [row["caption"]]
    captions = row.get("captions")
    if not isinstance(captions, list) or not captions or not all(isinstance(c, str) and c.strip() for c in captions):
        raise BadRow("empty or missing 'captions'")
    _media(row, "image", root)


def _check_speech(row: Row, root: Path) -> None:
    if "audio" not in row and "wav" in row:
        row["audio"] = row.pop("wav")
    _text(row)
    _media(row, "audio", root)


def _check_ocr(row: Row, root: Path) -> None:
    _text(row)
    _media(row, "image", root)


def _check_sft(row: Row, root: Path) -> None:
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
            _check_item(item, root)


def _check_item(item: Any, root: Path) -> None:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind in ("image", "audio"):
        _media(item, kind, root)
    elif kind in ("text", "speech"):
        _text(item)
    else:
        raise BadRow(f"unknown content type {kind!r}; known: text, image, audio, speech")


CHECKS: dict[str, Callable[[Row, Path], None]] = {
    "text": _check_text,
    "image_text": _check_image_text,
    "speech": _check_speech,
    "ocr": _check_ocr,
    "sft": _check_sft,
}
