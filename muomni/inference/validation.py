"""What the Python API is given, where it comes in: a value of the wrong kind is one line that says what is expected."""

import os
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from muomni.short_repr import shown


def need_text(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is a string."""
    if not isinstance(value, str):
        raise ValueError(f"{name}: a string is needed, not {_kind(value)}")


def need_switch(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is True or False: "no" would count as true."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={shown(value)}: True or False is needed")


def need_one_of(name: str, value: Any, known: Collection[str]) -> None:
    """Raise ValueError unless `value` is one of the names that are known."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}={shown(value, str)} is unknown; available: {', '.join(known)}")


def need_file(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is the name of a file or folder."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        given = "an empty name" if value == "" else _kind(value)
        raise ValueError(f"{name}: the name of a file or folder is needed, not {given}")


def need_many(name: str, value: Any, *, of: str, one: str) -> None:
    """Raise ValueError unless `value` is a list or the like: of a string its letters, of a tensor its rows would be taken.
    one: says what takes a single one."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | Iterator):
        raise ValueError(f"{name}: a list of {of} is needed, not {_kind(value)}; {one}")


def _kind(value: Any) -> str:
    return "None" if value is None else type(value).__name__
