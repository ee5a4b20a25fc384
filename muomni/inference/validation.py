"""Argument checks of the Python API: a value of the wrong type raises ValueError, one line that says what is expected."""

import os
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from muomni.short_repr import shown


def require_str(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is a string."""
    if not isinstance(value, str):
        raise ValueError(f"{name}: a string is needed, not {_type_name(value)}")


def require_bool(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is True or False: "no" would count as true."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={shown(value)}: True or False is needed")


def require_one_of(name: str, value: Any, known: Collection[str]) -> None:
    """Raise ValueError unless `value` is one of the known names."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}={shown(value, str)} is unknown; available: {', '.join(known)}")


def require_path(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is the name of a file or folder."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        given = "an empty name" if value == "" else _type_name(value)
        raise ValueError(f"{name}: the name of a file or folder is needed, not {given}")


def require_sequence(name: str, value: Any, *, of: str, single: str) -> None:
    """Raise ValueError unless `value` is a sequence or iterator; a string or a tensor would be taken apart instead.

    of: what it should hold. single: how to pass just one, for the message.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | Iterator):
        raise ValueError(f"{name}: a list of {of} is needed, not {_type_name(value)}; {single}")


def _type_name(value: Any) -> str:
    return "None" if value is None else type(value).__name__
