"""muomni: a small omni model that reads, sees, hears and speaks, trained from random weights."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from muomni import aliases

if TYPE_CHECKING:
    from muomni.inference.answer import Answer, Piece, TokenLogprob
    from muomni.inference.asr.transcript import Transcript, TranscriptSegment
    from muomni.inference.conversation import Conversation
    from muomni.inference.decoding.options import GenerationOptions
    from muomni.inference.decoding.timings import Timings
    from muomni.inference.engine import Engine
    from muomni.inference.errors import (
        Cancelled,
        ContextLength,
        InvalidMedia,
        InvalidOption,
        MissingModule,
        MuomniError,
        QueueFull,
    )
    from muomni.inference.load import load_model
    from muomni.inference.prompt import Request

__version__ = "0.2.0"
__all__ = [
    "Answer",
    "Cancelled",
    "ContextLength",
    "Conversation",
    "Engine",
    "GenerationOptions",
    "InvalidMedia",
    "InvalidOption",
    "MissingModule",
    "MuomniError",
    "Piece",
    "QueueFull",
    "Request",
    "Timings",
    "TokenLogprob",
    "Transcript",
    "TranscriptSegment",
    "load_model",
]
#: Module of `muomni.inference` -> the names above that it has.
_OWNERS = {
    "answer": ("Answer", "Piece", "TokenLogprob"),
    "asr.transcript": ("Transcript", "TranscriptSegment"),
    "conversation": ("Conversation",),
    "decoding.options": ("GenerationOptions",),
    "decoding.timings": ("Timings",),
    "engine": ("Engine",),
    "errors": (
        "Cancelled",
        "ContextLength",
        "InvalidMedia",
        "InvalidOption",
        "MissingModule",
        "MuomniError",
        "QueueFull",
    ),
    "load": ("load_model",),
    "prompt": ("Request",),
}

aliases.install()


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` on first use: the engine takes seconds, and a training run does not need it."""
    for module, names in _OWNERS.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"muomni.inference.{module}"), name)
            return value
    raise AttributeError(f"module 'muomni' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
