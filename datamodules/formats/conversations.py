"""Conversations as LLaVA and ShareGPT write them, in any format that holds objects: "conversations" of {"from", "value"} turns,
with <image> and <audio> where the row's "image" ("images") and "audio" ("audios") go; the same marks in "messages"."""

import re
from typing import Any

from datamodules.formats.entries import BadRow, Row
from muomni.short_repr import shown

ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "model": "assistant",
    "bot": "assistant", "system": "system",
}  # fmt: skip
KINDS = ("image", "audio")
MARK = re.compile(r"<(image|audio)>")
TAKEN = ("conversations", "messages", "image", "images", "audio", "audios")


def with_messages(row: Row) -> Row | BadRow:
    """A row of shape sft: "conversations" as "messages", media in the order of their marks; the same of "messages" with media
    next to them, each for a mark or for an item {"type": "image"} without a file. Others as they are."""
    name = "messages" if "messages" in row else "conversations"
    if name not in row:
        return row
    media = {kind: _listed(row, kind) for kind in KINDS}
    if row.get("video") or row.get("videos"):
        return BadRow("it has a 'video'; of conversations images and recordings are read")
    counts = dict.fromkeys(KINDS, 0)
    if name == "messages":
        if not any(media.values()) or not _waits(row[name]):
            return row
        messages = [turn | {"content": _filled(turn.get("content"), media, counts)} for turn in row[name]]
    else:
        turns = _turns(row[name], media, counts)
        if isinstance(turns, BadRow):
            return turns
        messages = turns
    for kind, files in media.items():
        if counts[kind] != len(files):
            found = f"<{kind}> marks in the conversation: {counts[kind]}, {kind} files of the row: {len(files)}"
            return BadRow(found)
    kept = {key: value for key, value in row.items() if key not in TAKEN}
    return kept | {"messages": messages}


def _turns(turns: Any, media: dict[str, list[Any]], counts: dict[str, int]) -> list[Row] | BadRow:
    """Turns of "from" and "value" as messages."""
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return BadRow("'conversations' must be a list of turns")
    messages: list[Row] = []
    for turn in turns:
        role, text = ROLES.get(str(turn.get("from"))), turn.get("value")
        if role is None:
            return BadRow(f"unknown 'from' {shown(turn.get('from'))}; known: {', '.join(ROLES)}")
        if not isinstance(text, str):
            return BadRow(f"no 'value' in a turn from {shown(turn['from'])}")
        messages.append({"role": role, "content": _content(text, media, counts)})
    return messages


def _waits(messages: Any) -> bool:
    """True if a text has a mark, or an item has no file: what is next to the messages belongs there."""
    if not isinstance(messages, list) or not all(isinstance(turn, dict) for turn in messages):
        return False  # shapes.py says what is wrong
    contents = [turn.get("content") for turn in messages]
    items = [item for content in contents if isinstance(content, list) for item in content if isinstance(item, dict)]
    texts = [*contents, *(item.get("text") for item in items)]
    return any(isinstance(text, str) and MARK.search(text) for text in texts) or any(map(_is_empty, items))


def _is_empty(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") in KINDS and not item.get(item["type"])


def _filled(content: Any, media: dict[str, list[Any]], counts: dict[str, int]) -> Any:
    """The content of a message with the row's media in place of marks and of items without a file."""
    if isinstance(content, str):
        return _content(content, media, counts)
    items: list[Any] = []
    for item in content if isinstance(content, list) else ():
        text = item.get("text") if isinstance(item, dict) and item.get("type") == "text" else None
        if _is_empty(item):
            items += _next(item["type"], media, counts)
        elif isinstance(text, str) and MARK.search(text):
            items += _content(text, media, counts)
        else:
            items.append(item)
    return items if isinstance(content, list) else content


def _next(kind: str, media: dict[str, list[Any]], counts: dict[str, int]) -> list[dict[str, Any]]:
    """The next of the row's media as an item; beyond them it is counted alone."""
    counts[kind] += 1
    number = counts[kind] - 1
    return [{"type": kind, kind: media[kind][number]}] if number < len(media[kind]) else []


def _listed(row: Row, name: str) -> list[Any]:
    value = row.get(name, row.get(f"{name}s"))
    return [] if value is None or value == "" else value if isinstance(value, list) else [value]


def _content(text: str, media: dict[str, list[Any]], counts: dict[str, int]) -> list[dict[str, Any]]:
    """The items of a turn; marks beyond the row's media are counted alone."""
    items: list[dict[str, Any]] = []
    for number, piece in enumerate(MARK.split(text)):
        if number % 2:
            items += _next(piece, media, counts)
        elif piece.strip():
            items.append({"type": "text", "text": piece.strip("\n") if MARK.search(text) else piece})
    return items or [{"type": "text", "text": text}]
