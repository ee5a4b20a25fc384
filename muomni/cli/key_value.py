"""`KEY=VALUE` arguments of a command line, typed like their defaults. Mistakes raise a ValueError of one line."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from muomni.cli.endings import quiet_endings

HELP = {"--help", "-h"}
SWITCH = {"true": True, "false": False}


def read_options(words: Sequence[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults, updated by the words. Raises ValueError for an unknown key or a value of another type."""
    options, rest = split_options(words, defaults)
    if rest:
        raise ValueError(f"unknown option {rest[0].partition('=')[0]!r}; available: {', '.join(defaults)}")
    return options


def split_options(words: Sequence[str], defaults: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """As `read_options`, and the words whose key has no default. A tuple default takes comma-separated names."""
    options, rest = dict(defaults), []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in defaults:
            options[key] = _as_type(word, value, defaults[key])
        else:
            rest.append(word)
    return options, rest


def _as_type(word: str, value: str, default: Any) -> Any:
    if isinstance(default, bool):
        if value not in SWITCH:
            raise ValueError(f"{word}: true or false")
        return SWITCH[value]
    if isinstance(default, int | float):
        try:
            return type(default)(value)
        except ValueError:
            kind = "a whole number" if isinstance(default, int) else "a number"
            raise ValueError(f"{word}: {kind} is needed") from None
    if isinstance(default, tuple):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


def run_program(main: Callable[[list[str]], Any], *, mistake: int = 1) -> NoReturn:
    """Call `main` with the words of the command line and exit with what it returns; a user's mistake is one line and exit code
    `mistake` (MUOMNI_TRACEBACK=1: a traceback). --help prints what the module of `main` says of itself."""
    with quiet_endings():
        if HELP & set(sys.argv[1:]):
            print(sys.modules[main.__module__].__doc__, flush=True)
            sys.exit(0)
        try:
            sys.exit(main(sys.argv[1:]))
        except BrokenPipeError:
            raise
        except (ValueError, OSError) as error:
            if os.environ.get("MUOMNI_TRACEBACK"):
                raise
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            sys.exit(mistake)
