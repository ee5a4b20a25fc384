"""A row as a line of JSON: a file inside another (`StoredMedia`) is an object that names its class and its fields."""

import importlib
import json
from dataclasses import fields
from typing import Any

from datamodules.media import StoredMedia

MARK = "__media__"
Row = dict[str, Any]


def dump_row(row: Row) -> bytes:
    """One line, without its end. Raises TypeError for a value that JSON does not have."""
    return _encode(row).encode()


def load_row(line: bytes) -> Row:
    """The row of `dump_row`."""
    text = line.decode()
    return json.loads(text, object_hook=_decoded) if MARK in text else json.loads(text)


def _encoded(value: Any) -> Any:
    if not isinstance(value, StoredMedia):
        raise TypeError(f"a value of a row is of type {type(value).__name__}, which JSON does not have")
    known = {field.name: getattr(value, field.name) for field in fields(value)}  # type: ignore[arg-type]
    return {MARK: f"{type(value).__module__}:{type(value).__name__}", **known}


def _decoded(value: dict[str, Any]) -> Any:
    if MARK not in value:
        return value
    module, _, name = value.pop(MARK).partition(":")
    if not module.startswith("datamodules."):
        raise ValueError(f"{module}:{name} is no class of media")
    class_ = getattr(importlib.import_module(module), name)
    return class_(**{key: tuple(each) if isinstance(each, list) else each for key, each in value.items()})


_encode = json.JSONEncoder(default=_encoded, separators=(",", ":")).encode
