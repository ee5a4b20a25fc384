"""What a row says it is one of: its task, its kind, its class, its speaker."""

from typing import Any

from datamodules.formats import Row

MAX_LABEL = 60  # characters
CLASS_KEYS = ("label", "class", "category")


def label(row: Row, key: str, default: str) -> str:
    """The value of a key that groups rows ("kind", "task"). Metrics are named by it, so it must be a short text or a whole
    number; anything else counts as missing."""
    value: Any = row.get(key)
    named = isinstance(value, str | int) and not isinstance(value, bool) and 0 < len(str(value).strip()) <= MAX_LABEL
    return str(value).strip() if named else default


def class_of(row: Row) -> str:
    """The name of an image's class, "" where the row has none."""
    names = (label(row, key, "") for key in CLASS_KEYS)
    return next((name for name in names if name), "")
