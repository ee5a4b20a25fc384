"""The architectures that an export can hold: each is registered by name and remembers how it was built.

An export names an architecture and its options; only names in `ARCHITECTURES` are ever built from a file (no `_target_`, no
import path).
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import nn

ARCHITECTURES: dict[str, type[nn.Module]] = {}

T = TypeVar("T", bound=type[nn.Module])


class MissingPackage(ImportError):
    """A module is built of classes of a package that is not installed; the message says how to install it."""


def register(name: str) -> Callable[[T], T]:
    """Class decorator: register the class as `name`. Instances have `architecture`, that name, and `options`, the keyword
    options of their constructor."""

    def decorate(cls: T) -> T:
        build = cls.__init__
        signature = inspect.signature(build)

        @functools.wraps(build)
        def remember(self: nn.Module, *args: Any, **options: Any) -> None:
            bound = signature.bind(self, *args, **options)
            bound.apply_defaults()
            arguments = dict(bound.arguments)
            arguments.pop("self")
            build(self, *args, **options)
            plain = {key: list(v) if isinstance(v, tuple) else v for key, v in arguments.items()}
            vars(self).update(options=plain, architecture=name)

        cls.__init__ = remember  # type: ignore[method-assign]
        ARCHITECTURES[name] = cls
        return cls

    return decorate


def check_characters(characters: str | None, *, num_symbols: int, others: int) -> None:
    """Raise ValueError where a table of `num_symbols`, `others` of which are no characters, is too small for a model's own
    characters and one more that stands for all the rest, or where a character occurs twice in it."""
    if characters is not None and len(set(characters)) < len(characters):
        raise ValueError("characters: one occurs twice")
    needed = 0 if characters is None else len(characters) + 1 + others
    if needed > num_symbols:
        raise ValueError(f"num_symbols={num_symbols}: {len(characters or '')} characters need num_symbols={needed}")


def check_choices(known: Mapping[str, Sequence[str]], **chosen: str) -> None:
    """Raise ValueError for an option whose value is none of those that are known of it."""
    for name, value in chosen.items():
        if value not in known[name]:
            raise ValueError(f"{name}={value}: available are {', '.join(known[name])}")
