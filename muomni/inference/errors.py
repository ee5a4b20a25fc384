"""Errors of inference that a user can mend: each is one line that says what is wrong and the way out.

All are ValueErrors, so that code which knows nothing of them still catches them. `param` is the option or field at fault, for
callers that report it separately (an HTTP API); None if there is no single one.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class MuomniError(ValueError):
    """Base of the errors below."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidOption(MuomniError):
    """An option, a message or another argument has a wrong type, is out of range, unknown, or excluded by another one."""


class InvalidMedia(MuomniError):
    """An image or an audio cannot be read, or is larger than allowed."""


class ContextLength(MuomniError):
    """Prompt, media and new tokens do not fit the context."""


#: Module of an export -> the line about its absence.
MISSING_MODULE_HELP = {
    "thinker": "this export has no Thinker, it cannot answer: train stage=thinker or stage=omni_sft and use its export",
    "audio": "this export has no audio encoder: train stage=audio or stage=omni_sft and use its export",
    "ocr": "this export has no OCR model: train stage=ocr and use its export",
    "talker": "this export has no Talker: train stage=talker and use its export, or name it by talker=",
    "codec": "this export has no codec for its Talker: train stage=talker again",
    "talker_thinker": "this export has no Thinker whose states its Talker could be told: train stage=talker again",
}


class MissingModule(MuomniError):
    """The export lacks the module that a task needs. `param` is its name."""


class QueueFull(MuomniError):
    """Too many requests wait. `retry_after`: seconds until it is worth to try again."""

    def __init__(self, message: str, *, retry_after: float, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.retry_after = retry_after


class Cancelled(MuomniError):
    """The request was cancelled before it was finished."""


class TextStalled(MuomniError):
    """A text that is spoken while it is written has paused for too long."""


class AudioStalled(MuomniError):
    """Audio that is transcribed while it is recorded has paused for too long."""


@contextmanager
def raised_as(error_type: type[MuomniError], *, param: str | None) -> Iterator[None]:
    """Inside, a ValueError of other packages, which already says what is wrong, becomes an `error_type` of this `param`."""
    try:
        yield
    except MuomniError:
        raise
    except ValueError as error:
        raise error_type(str(error), param=param) from error
