"""The parts that an export can hold: each architecture registers under its name and remembers how it was built.

An export names a part and its options; only names in `PARTS` are ever built from a file (no `_target_`, no import path).
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

PARTS: dict[str, type[nn.Module]] = {}

T = TypeVar("T", bound=type[nn.Module])


def part(name: str) -> Callable[[T], T]:
    """Class decorator: register the class as `name`, and keep its constructor's keyword options in `self.options`."""

    def register(cls: T) -> T:
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
            vars(self).update(options=plain, part_name=name)

        cls.__init__ = remember  # type: ignore[method-assign]
        PARTS[name] = cls
        return cls

    return register


def check_room(characters: str | None, *, num_symbols: int, others: int) -> None:
    """Raise ValueError where a table of `num_symbols`, `others` of which are no characters, has no room for a model's own
    characters and one more that stands for all the rest, or where one character has two places in it."""
    if characters is not None and len(set(characters)) < len(characters):
        raise ValueError("characters: one stands there twice")
    needed = 0 if characters is None else len(characters) + 1 + others
    if needed > num_symbols:
        raise ValueError(f"num_symbols={num_symbols}: {len(characters or '')} characters need num_symbols={needed}")
