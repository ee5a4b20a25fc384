"""Text or audio that comes from elsewhere, with a limit on how long it may pause: whoever reads it never hangs."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from muomni.inference.errors import AudioStalled, InvalidOption, MuomniError, TextStalled

PATIENCE = 60.0  # seconds
Piece = TypeVar("Piece")
_END = object()


def patient(pieces: Iterable[str], seconds: float | None) -> Iterator[str]:
    """The pieces of a text. Raises TextStalled where the next one takes longer than `seconds` (None: never); see `reading`."""
    written = ""

    def stalled() -> MuomniError:
        after = f"after {written[-40:]!r}" if written else "before its first piece"
        return TextStalled(f"the text has stalled {after}: nothing came for {seconds:g} s", param="text")

    def noted(pieces: Iterator[str]) -> Iterator[str]:
        nonlocal written
        for piece in pieces:
            written = (written + piece)[-40:] if isinstance(piece, str) else written
            yield piece

    return noted(reading(pieces, seconds, stalled=stalled, what="text to speak"))


def patient_audio(pieces: Iterable[Piece], seconds: float | None, *, heard: Callable[[], float]) -> Iterator[Piece]:
    """The pieces of a recording. Raises AudioStalled where the next one takes longer than `seconds` (None: never); see `reading`.
    heard: how many seconds came before."""

    def stalled() -> MuomniError:
        return AudioStalled(
            f"the audio has stalled after {heard():.1f} s: nothing came for {seconds:g} s", param="audio"
        )

    return reading(pieces, seconds, stalled=stalled, what="audio to transcribe")


def reading(
    pieces: Iterable[Piece], seconds: float | None, *, stalled: Callable[[], MuomniError], what: str
) -> Iterator[Piece]:
    """The pieces, read by a thread of their own, which is named `what`. Raises what `stalled` returns where the next one takes
    longer than `seconds` (None: never), and whatever the iterator raises. A list or tuple cannot pause, and is read at once.

    After the end of this iterator, also before that of `pieces`, the thread reads no more than the piece that it waits for.
    """
    if seconds is not None and not 0 < seconds < threading.TIMEOUT_MAX:
        raise InvalidOption(f"patience={seconds}: seconds above 0 are needed, or None", param="patience")
    if seconds is None or isinstance(pieces, list | tuple):
        return iter(pieces)
    return _read(pieces, seconds, stalled, what)


def _read(pieces: Iterable[Piece], seconds: float, stalled: Callable[[], MuomniError], what: str) -> Iterator[Piece]:
    came: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    stopped = threading.Event()

    def read() -> None:
        try:
            for piece in pieces:
                came.put((piece, None))
                if stopped.is_set():
                    return
        except BaseException as error:  # raised again by the reader
            came.put((None, error))
        else:
            came.put((_END, None))

    threading.Thread(target=read, name=what, daemon=True).start()
    try:
        while True:
            try:
                piece, error = came.get(timeout=seconds)
            except queue.Empty:
                raise stalled() from None
            if error is not None:
                raise error
            if piece is _END:
                return
            yield piece
    finally:
        stopped.set()
