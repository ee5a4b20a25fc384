"""A value of the user's inside a message: short and in one line, whatever it is."""

from collections.abc import Callable
from typing import Any

MOST = 60


def shown(value: Any, write: Callable[[Any], str] = repr, *, most: int = MOST) -> str:
    """What `write` makes of a value, in one line of at most `most` characters."""
    text = write(value)
    text = text if len(text.splitlines()) < 2 else " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 3]}..."
