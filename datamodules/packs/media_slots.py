"""Where the rows of a shape hold media."""

from collections.abc import Iterator
from typing import Any

TYPES = ("image", "audio")
KEYS = {"image_text": "image", "ocr": "image", "speech": "audio"}


def media_slots(row: dict[str, Any], shape: str) -> Iterator[tuple[dict[str, Any], str]]:
    """(dict, key) of every medium of a row: `dict[key]` is one."""
    if shape in KEYS:
        yield row, KEYS[shape]
    for message in row.get("messages", ()) if shape == "sft" else ():
        for item in message["content"]:
            if item["type"] in TYPES:
                yield item, item["type"]
