"""Options whose value is taken just as the shell passes it: texts and paths, whose signs mean something else to Hydra."""

from collections.abc import Collection
from typing import Any


def split_arguments(
    arguments: list[str], *, strings: Collection[str], repeatable: Collection[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Command line -> string options verbatim, and the arguments for Hydra to parse. repeatable: string options that may be given
    several times, whose values become a list; any other repeated option is a ValueError."""
    raw: dict[str, Any] = {}
    rest: list[str] = []
    given: set[str] = set()
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in repeatable and key in raw:
            raw[key] = [*([raw[key]] if isinstance(raw[key], str) else raw[key]), value]
            continue
        if equals and key in given:
            raise ValueError(f"{key}= is given twice: give one of them")
        given.add(key)
        if equals and key in strings:
            raw[key] = value
        else:
            rest.append(argument)
    return raw, rest
