"""Argument checks of the Python API: a value of the wrong type raises InvalidOption, one line that says what is expected."""

import os
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from muomni.inference.errors import InvalidOption
from muomni.short_repr import shown


def require_str(name: str, value: Any) -> None:
    """Raise InvalidOption unless `value` is a string."""
    if not isinstance(value, str):
        raise InvalidOption(f"{name}: a string is needed, not {_type_name(value)}", param=name)


def require_bool(name: str, value: Any) -> None:
    """Raise InvalidOption unless `value` is True or False: "no" would count as true."""
    if not isinstance(value, bool):
        raise InvalidOption(f"{name}={shown(value)}: True or False is needed", param=name)


def require_number(name: str, value: Any, least: float, most: float) -> None:
    """Raise InvalidOption unless `value` is a number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InvalidOption(f"{name}={shown(value)}: a number from {least:g} to {most:g} is needed", param=name)


def require_one_of(name: str, value: Any, known: Collection[str]) -> None:
    """Raise InvalidOption unless `value` is one of the known names."""
    if not isinstance(value, str) or value not in known:
        raise InvalidOption(f"{name}={shown(value, str)} is unknown; available: {', '.join(known)}", param=name)


def require_path(name: str, value: Any) -> None:
    """Raise InvalidOption unless `value` is the name of a file or folder."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        given = "an empty name" if value == "" else _type_name(value)
        raise InvalidOption(f"{name}: the name of a file or folder is needed, not {given}", param=name)


def require_sequence(name: str, value: Any, *, of: str, single: str) -> None:
    """Raise InvalidOption unless `value` is a sequence or iterator; a string or a tensor would be taken apart instead.

    of: what it should hold. single: how to pass just one, for the message.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | Iterator):
        raise InvalidOption(f"{name}: a list of {of} is needed, not {_type_name(value)}; {single}", param=name)


def _type_name(value: Any) -> str:
    return "None" if value is None else type(value).__name__
