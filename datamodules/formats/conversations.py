"""Conversations as LLaVA and ShareGPT write them, in any format that holds objects: "conversations" of {"from", "value"} turns,
with <image> and <audio> where the row's "image" ("images") and "audio" ("audios") go."""

import re
from typing import Any

from datamodules.formats.entries import BadRow, Row
from muomni.short_repr import shown

ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "model": "assistant",
    "bot": "assistant", "system": "system",
}  # fmt: skip
MARK = re.compile(r"<(image|audio)>")


def with_messages(row: Row) -> Row | BadRow:
    """A row of shape sft: "conversations" as "messages", media in the order of their marks; others as they are."""
    if "messages" in row or "conversations" not in row:
        return row
    turns = row["conversations"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return BadRow("'conversations' must be a list of turns")
    media = {name: _listed(row, name) for name in ("image", "audio")}
    counts = dict.fromkeys(media, 0)
    messages = []
    for turn in turns:
        role, text = ROLES.get(str(turn.get("from"))), turn.get("value")
        if role is None:
            return BadRow(f"unknown 'from' {shown(turn.get('from'))}; known: {', '.join(ROLES)}")
        if not isinstance(text, str):
            return BadRow(f"no 'value' in a turn from {shown(turn['from'])}")
        messages.append({"role": role, "content": _content(text, media, counts)})
    for name, files in media.items():
        if counts[name] != len(files):
            return BadRow(f"<{name}> marks in the conversation: {counts[name]}, {name} files of the row: {len(files)}")
    kept = {
        key: value for key, value in row.items() if key not in ("conversations", "image", "images", "audio", "audios")
    }
    return kept | {"messages": messages}


def _listed(row: Row, name: str) -> list[Any]:
    value = row.get(name, row.get(f"{name}s"))
    return [] if value is None or value == "" else value if isinstance(value, list) else [value]


def _content(text: str, media: dict[str, list[Any]], counts: dict[str, int]) -> list[dict[str, Any]]:
    """The items of a turn; marks beyond the row's media are counted alone."""
    items: list[dict[str, Any]] = []
    for number, piece in enumerate(MARK.split(text)):
        if number % 2:
            if counts[piece] < len(media[piece]):
                items.append({"type": piece, piece: media[piece][counts[piece]]})
            counts[piece] += 1
        elif piece.strip():
            items.append({"type": "text", "text": piece.strip("\n") if MARK.search(text) else piece})
    return items or [{"type": "text", "text": text}]
