"""What a row must hold, by shape; media paths become absolute, other spellings of a key the usual one.

text {"text"} or {"prompt", "answer"}, image_text {"image", "captions": [..] or "caption"}, speech {"audio" or "wav", "text"},
ocr {"image", "text"}, sft {"messages"}. Labelled rows, of which questions are made: image_text {"image", "label"}, speech
{"audio", "speaker"}.
"""

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datamodules.formats import BadRow, Row
from datamodules.formats.folders import leaves
from datamodules.media import AudioClip, Media, StoredMedia
from datamodules.row_label import class_of, label
from muomni.frontends.chat import check_conversation, join_turns_of_a_role
from muomni.short_repr import shown
from muomni.user_path import find


def find_media(name: str, root: Path) -> str:
    """Absolute path of a media file: root/name, root/images/name, parent of root/name, name, in this order; an absolute
    name is itself. Raises BadRow where none is a file, and for a name that leaves the root's parent by ".."."""
    if leaves(name, root):
        raise BadRow(
            f"{shown(name, str, most=300)} leaves {root.parent}: set data.root=DIR, or name the file absolutely"
        )
    first = os.path.join(root, name)  # nearly always there, and several times faster than a Path
    if os.path.isfile(first):
        return str(Path(first).absolute())
    below = (root / name, root / "images" / name, root.parent / name)
    alike = (Path(find(str(path))) for path in below)  # spelled in another Unicode form, or by backslashes
    for path in itertools.chain(below, [Path(name)], alike):  # one after the other: each takes a look at the disk
        # unlike Path.is_file, False also for what cannot be a name, as a text that is too long
        if os.path.isfile(path):
            return str(path.absolute())
    where = "" if Path(name).is_absolute() else f": not in {root}, its images/, its parent or here; set data.root=DIR"
    raise BadRow(f"missing file {shown(name, str, most=300)}{where}")


def _text(row: Row, key: str, *, missing: str = "empty or missing {!r}") -> None:
    value = row.get(key)
    if isinstance(value, StoredMedia):
        raise BadRow(f"{key!r} is a column of bytes, not of texts")
    if value is not None and not isinstance(value, str):
        raise BadRow(f"{key!r} is {shown(value, most=60)}, not a text")
    if value is None or not value.strip():
        raise BadRow(missing.format(key) + ("" if key in row else _keys(row)))
    _check_characters(row[key], key)


def _keys(row: Row) -> str:
    """What a row has in place of a key that is missing."""
    return f" (its keys: {shown(', '.join(map(str, row)), str, most=200)})" if row else ""


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
        raise BadRow("empty or missing 'captions'" + ("" if "captions" in row else _keys(row)))
    for caption in captions:
        _check_characters(caption, "captions")
    _media(row, "image", root)


def _check_speech(row: Row, root: Path, *, silent: bool = False) -> None:
    """silent: it needs no text."""
    if "audio" not in row and "wav" in row:
        row["audio"] = row.pop("wav")
    if not silent:
        _text(row, "text")
    _media(row, "audio", root)
    if isinstance(row.get("segment"), list):
        row["audio"] = _clip(row["audio"], row.pop("segment"))


def _clip(audio: Media, segment: list[Any]) -> AudioClip:
    times = [float(time) for time in segment if isinstance(time, int | float) and not isinstance(time, bool)]
    if len(times) != 2 or len(segment) != 2 or not 0 <= times[0] < times[1] < float("inf"):
        raise BadRow(f"'segment' is {shown(segment, most=60)}: begin and end in seconds are needed")
    if not isinstance(audio, str):
        raise BadRow("'segment' cuts a recording that is a file of its own")
    return AudioClip(audio, *times)


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


def _check_labelled_image(row: Row, root: Path) -> None:
    if class_of(row) and not (row.get("captions") or row.get("caption")):
        row["captions"] = []
        _media(row, "image", root)
    else:
        _check_image_text(row, root)


def _check_labelled_speech(row: Row, root: Path) -> None:
    silent = bool(label(row, "speaker", "")) and row.get("text") in (None, "")
    _check_speech(row, root, silent=silent)
    if silent:
        row["text"] = ""


LABELLED = {"image_text": _check_labelled_image, "speech": _check_labelled_speech}


def check_of(shape: str, *, labelled: bool) -> Callable[[Row, Path], None]:
    """What raises BadRow for a row that lacks something of its shape. labelled: it may have a label alone (`Reading`)."""
    return LABELLED.get(shape, CHECKS[shape]) if labelled else CHECKS[shape]
