"""Manifests: data files whose entries have one of a few shapes, with media paths relative to a root.

Shapes: text {"text"} or {"prompt", "answer"}, image_text {"image", "captions": [..] or "caption"}, speech {"audio" or
"wav", "text"}, ocr {"image", "text"}, sft {"messages"}. Formats: file_formats.py. An entry that cannot be used is skipped,
counted and reported; more than 1 % of them is an error. docs/data.md has an example of each.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.file_formats import BadRow, Row, entry_place, read_entries
from datamodules.media import StoredMedia
from muomni.frontends.chat import check_conversation, join_turns_of_a_role
from muomni.short_repr import shown
from muomni.user_path import find

log = logging.getLogger(__name__)

MAX_BAD_SHARE = 0.01
MAX_LABEL = 60  # characters


def read_manifest(
    path: Path | str, *, shape: str, split: str | None = None, root: Path | str | None = None
) -> list[Row]:
    """Rows of a manifest, media paths made absolute, each with an `id` of its own; the same whatever the file's format.

    split: keep only rows whose "split" is this; None keeps all.
    root: of the media paths: `p` is root/p, root/images/p, parent of root/p or p, the first that is a file. None: the
    manifest's own folder.
    Raises FileNotFoundError for a missing manifest or root, ValueError naming file and line when over 1 % of the split's
    rows are bad (one that cannot be read counts in every split) or when no row is left.
    """
    path = Path(path)
    rows: list[Row] = []
    bad: list[str] = []
    others = 0
    seen: set[str] = set()
    for number, entry in checked_entries(path, shape=shape, split=split, root=root):
        if isinstance(entry, BadRow):
            bad.append(f"{entry_place(path, number)}: {entry}")
        elif isinstance(entry, OtherSplit):
            others += 1
        else:
            entry["id"] = _unused(entry.get("id"), seen, where=f"{path}:{number}")
            rows.append(entry)
    report_bad(bad, total=len(rows) + len(bad), what=str(path))
    log_skipped(others, len(rows) + len(bad) + others, what=str(path), why=f"their split is not {split!r}")
    if not rows:
        raise ValueError(f"{path}: no rows" + (f" with split {split!r}" if split else ""))
    return rows


@dataclass(frozen=True, slots=True)
class OtherSplit:
    """A row of a split that is not read. name: the value of its "split", None where it has none."""

    name: Any


def checked_entries(
    path: Path, *, shape: str, split: str | None, root: Path | str | None
) -> Iterator[tuple[int, Row | BadRow | OtherSplit]]:
    """(number, entry) of every entry of a manifest, one after the other: a row with absolute media paths, a BadRow in place of
    one that cannot be used. Arguments and errors of what is no manifest as of `read_manifest`."""
    if shape not in CHECKS:
        raise ValueError(f"unknown manifest shape {shape!r}; available: {', '.join(CHECKS)}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such manifest")
    if root is not None and not Path(root).is_dir():
        raise FileNotFoundError(f"data.root={root}: no such folder")
    folder = Path(os.path.abspath(path.parent if root is None else root))
    for number, entry in read_entries(path, shape=shape):
        if isinstance(entry, BadRow):
            yield number, entry
        elif split is not None and entry.get("split") != split:
            yield number, OtherSplit(entry.get("split"))
        else:
            try:
                CHECKS[shape](entry, folder)
            except BadRow as error:
                yield number, error
            else:
                yield number, entry


def _unused(given: Any, seen: set[str], *, where: str) -> Any:
    """A row's own id, or else FILE:LINE, which no other file shares; to one that the file has already, FILE:LINE is appended."""
    name = where if given is None or str(given) == "" else given
    if str(name) in seen:
        name = f"{name} ({where})"
    seen.add(str(name))
    return name


def report_bad(bad: list[str], *, total: int, what: str) -> None:
    """Warn of skipped samples; over 1 % of them is a ValueError. Each entry names file, line and reason."""
    if not bad:
        return
    if len(bad) > MAX_BAD_SHARE * total:
        raise ValueError(f"{what}: {len(bad)} of {total} samples cannot be used (over 1 %); the first: {bad[0]}")
    log.warning("%s: skipped %d of %d samples; the first: %s", what, len(bad), total, bad[0])


def log_skipped(count: int, total: int, *, what: str, why: str) -> None:
    """Log how many of a manifest's rows are not used, and why; nothing where all are. what: the name of the data."""
    if count:
        log.warning("%s: %d of %d rows are left out: %s", what, count, total, why)


def keep_rows(rows: list[Row], kept: Iterable[bool], *, what: str, why: str) -> list[Row]:
    """The rows that are kept; how many are not is logged (`log_skipped`)."""
    used = [row for row, keep in zip(rows, kept, strict=True) if keep]
    log_skipped(len(rows) - len(used), len(rows), what=what, why=why)
    return used


def first_rows(rows: list[Row], count: int | None, *, what: str, why: str) -> list[Row]:
    """The first `count` rows, None: all; how many others there are is logged."""
    log_skipped(len(rows) - len(rows[:count]), len(rows), what=what, why=why)
    return rows[:count]


def find_media(name: str, root: Path) -> str:
    """Absolute path of a media file: root/name, root/images/name, parent of root/name, name, in this order; an absolute
    name is itself. Raises BadRow where none is a file."""
    below = (root / name, root / "images" / name, root.parent / name)
    alike = (Path(find(str(path))) for path in below)  # spelled in another Unicode form, or by backslashes
    for path in (*below, Path(name), *alike):
        # unlike Path.is_file, False also for what cannot be a name, as a text that is too long
        if os.path.isfile(path):
            return str(path.absolute())
    where = "" if Path(name).is_absolute() else f": not in {root}, its images/, its parent or here; set data.root=DIR"
    raise BadRow(f"missing file {shown(name, str, most=300)}{where}")


def label(row: Row, key: str, default: str) -> str:
    """The value of a key that groups rows ("kind", "task"). Metrics are named by it, so it must be a short text or a whole
    number; anything else counts as missing."""
    value = row.get(key)
    named = isinstance(value, str | int) and not isinstance(value, bool) and 0 < len(str(value).strip()) <= MAX_LABEL
    return str(value).strip() if named else default


@dataclass(eq=False)
class RowSet:
    """Samples that are rows of a manifest; a subclass defines `item`. index: the row of each sample, all rows in their order
    unless a subclass chooses some."""

    rows: list[Row]
    index: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.index = np.arange(len(self.rows))

    def __len__(self) -> int:
        return len(self.index)

    def row(self, index: int) -> int:
        """The row of sample `index`."""
        return int(self.index[index])

    def name(self, index: int) -> str:
        """The row's id."""
        return str(self.rows[self.row(index)]["id"])


def _text(row: Row, key: str, *, missing: str = "empty or missing {!r}") -> None:
    if not isinstance(row.get(key), str) or not row[key].strip():
        raise BadRow(missing.format(key))
    _check_characters(row[key], key)


def _media(row: Row, key: str, root: Path) -> None:
    if isinstance(row.get(key), StoredMedia):
        return
    _text(row, key, missing="no {!r}")
    row[key] = find_media(row[key].strip(), root)


def _check_characters(text: str, key: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # of JSON: "\\ud83d" without its second half
        raise BadRow(f"half a character ({text[error.start]!a}) in {key!r}, at character {error.start + 1}") from error


def _check_text(row: Row, root: Path) -> None:
    for key in ("prompt", "answer") if "prompt" in row else ("text",):
        _text(row, key)


def _check_image_text(row: Row, root: Path) -> None:
    if "captions" not in row and "caption" in row:
        row["captions"] = [row["caption"]]
    captions = row.get("captions")
    if not isinstance(captions, list) or not captions or not all(isinstance(c, str) and c.strip() for c in captions):
        raise BadRow("empty or missing 'captions'")
    for caption in captions:
        _check_characters(caption, "captions")
    _media(row, "image", root)


def _check_speech(row: Row, root: Path) -> None:
    if "audio" not in row and "wav" in row:
        row["audio"] = row.pop("wav")
    _text(row, "text")
    _media(row, "audio", root)


def _check_ocr(row: Row, root: Path) -> None:
    _text(row, "text")
    _media(row, "image", root)


def _check_sft(row: Row, root: Path) -> None:
    messages = row.get("messages")
    if not isinstance(messages, list) or len(messages) < 2 or not all(isinstance(turn, dict) for turn in messages):
        raise BadRow("'messages' must hold turns: at least a user's and an assistant's")
    spoken = []
    for message in messages:
        if message.get("role") not in ("user", "assistant", "system"):
            raise BadRow(f"unknown role {shown(message.get('role'))}")
        if isinstance(message.get("content"), str):
            message["content"] = [{"type": "text", "text": message["content"]}]
        if not isinstance(message.get("content"), list) or not message["content"]:
            raise BadRow(f"empty or missing 'content' of the {message['role']}'s turn")
        if message["role"] == "system" and message["content"] == [{"type": "text", "text": ""}]:
            continue  # many files have a system that says nothing
        for item in message["content"]:
            type_ = item.get("type") if isinstance(item, dict) else None
            if type_ not in ("text", "image", "audio", "speech"):
                raise BadRow(f"unknown content type {shown(type_)}; known: text, image, audio, speech")
            if type_ in ("image", "audio"):
                _media(item, type_, root)
            else:
                _text(item, "text")
        spoken.append(message)
    if not spoken or spoken[-1]["role"] != "assistant":
        raise BadRow("'messages' must end with the assistant's turn")
    try:
        row["messages"] = join_turns_of_a_role(spoken)
        check_conversation(row["messages"])
    except ValueError as error:
        raise BadRow(str(error)) from error


CHECKS: dict[str, Callable[[Row, Path], None]] = {
    "text": _check_text, "image_text": _check_image_text, "speech": _check_speech, "ocr": _check_ocr, "sft": _check_sft,
}  # fmt: skip
