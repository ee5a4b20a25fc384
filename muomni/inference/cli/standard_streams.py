"""Options whose value is `-`: text and audio from standard input, audio to standard output.

Standard output then holds the audio alone: answers and notices go to standard error.
"""

import sys
from typing import Any, BinaryIO

from muomni.inference.errors import InvalidOption
from muomni.inference.sources import in_memory

STREAM = "-"
READ = ("text", "prompt", "audio_in", "batch")  # options that may be read from standard input


def read_streams(cfg: dict[str, Any]) -> dict[str, Any]:
    """A copy in which `-` is replaced by what standard input holds: a text, or an audio file, or with live=true by itself.
    Raises InvalidOption if two options want it, or if it is empty or no text."""
    wanted = [name for name in READ if cfg[name] == STREAM]
    if not wanted:
        return cfg
    if len(wanted) > 1:
        raise InvalidOption(f"{'=- and '.join(wanted)}=-: standard input can be read once: name a file for one of them")
    (name,) = wanted
    if name == "batch":
        raise InvalidOption(
            "batch=-: the requests are in a file, so that an interrupted batch can be resumed", param=name
        )
    if name == "audio_in" and cfg["live"]:
        return cfg | {name: sys.stdin.buffer}  # it has no end
    if name == "audio_in":
        return cfg | {name: in_memory(sys.stdin.buffer, what="audio")}
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise InvalidOption(f"{name}=-: standard input is no UTF-8 text: {error}", param=name) from error
    text = text.removesuffix("\n").removesuffix("\r")  # of the line, as of a command substitution
    if not text.strip():
        raise InvalidOption(f"{name}=-: standard input is empty", param=name)
    return cfg | {name: text}


def binary_output() -> BinaryIO:
    """Standard output for bytes."""
    return sys.stdout.buffer
