"""A text that comes from elsewhere, with a limit on how long it may pause: whoever reads it never hangs."""

import queue
import threading
from collections.abc import Iterable, Iterator

from muomni.inference.errors import InvalidOption, TextStalled

PATIENCE = 60.0  # seconds


def patient(pieces: Iterable[str], seconds: float | None) -> Iterator[str]:
    """The pieces, read by a thread of their own. Raises TextStalled where the next one takes longer than `seconds` (None: never),
    and whatever the iterator raises. A list or tuple cannot pause, and is read at once.

    After the end of this iterator, also before that of `pieces`, the thread reads no more than the piece that it waits for.
    """
    if seconds is not None and not 0 < seconds < threading.TIMEOUT_MAX:
        raise InvalidOption(f"patience={seconds}: seconds above 0 are needed, or None", param="patience")
    if seconds is None or isinstance(pieces, list | tuple):
        return iter(pieces)
    return _read(pieces, seconds)


def _read(pieces: Iterable[str], seconds: float) -> Iterator[str]:
    came: queue.SimpleQueue[tuple[str | None, BaseException | None]] = queue.SimpleQueue()
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
            came.put((None, None))

    threading.Thread(target=read, name="text to speak", daemon=True).start()
    written = ""
    try:
        while True:
            try:
                piece, error = came.get(timeout=seconds)
            except queue.Empty:
                after = f"after {written[-40:]!r}" if written else "before its first piece"
                raise TextStalled(
                    f"the text has stalled {after}: nothing came for {seconds:g} s", param="text"
                ) from None
            if error is not None:
                raise error
            if piece is None:
                return
            written = (written + piece)[-40:] if isinstance(piece, str) else written
            yield piece
    finally:
        stopped.set()
