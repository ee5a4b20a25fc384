"""Tokens -> text while they come: nothing is shown that a later token could still change.

Held back are characters whose bytes are incomplete and what may become a stop string.

Not transformers' TextStreamer: it takes a single row and knows no stop strings.

Shapes: B rows.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from muomni.frontends.tokenizer import Tokenizer

INCOMPLETE = "\ufffd"


def find_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where the earliest stop string begins, or None."""
    places = [place for place in (text.find(word) for word in stop) if place >= 0]
    return min(places) if places else None


class TextStream:
    """`push` each token, then `close`; the pieces joined equal the whole text, cut at the first stop string."""

    def __init__(self, tokenizer: Tokenizer, *, stop: Sequence[str]) -> None:
        self.tokenizer, self.stop = tokenizer, tuple(stop)
        self.ids: list[int] = []
        self.shown = 0
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that is certain now and was not shown yet."""
        self.ids.append(token)
        text = self.tokenizer.decode(self.ids)
        place = find_stop(text, self.stop)
        if place is not None:
            self.stopped = True
            return self._show(text, place)
        certain = len(text.rstrip(INCOMPLETE))
        return self._show(text, certain - self._maybe_stop(text[:certain]))

    def close(self) -> str:
        """The rest, when no more tokens come."""
        if self.stopped:
            return ""
        text = self.tokenizer.decode(self.ids)
        return self._show(text, len(text))

    def _maybe_stop(self, text: str) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = max((len(word) for word in self.stop), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(word.startswith(text[-length:]) for word in self.stop):
                return length
        return 0

    def _show(self, text: str, end: int) -> str:
        fresh = text[self.shown : end]
        self.shown = max(self.shown, end)
        return fresh


def text_of(tokenizer: Tokenizer, ids: Sequence[int], *, stop: Sequence[str]) -> str:
    """The whole text at once: what the pieces of a `TextStream` join to."""
    if not stop:
        return tokenizer.decode(ids)
    stream = TextStream(tokenizer, stop=stop)
    pieces: list[str] = []
    for token in ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    return "".join(pieces) + stream.close()


def stopper(tokenizer: Tokenizer, stop: Sequence[str]) -> Callable[[Sequence[int]], bool] | None:
    """Whether ids hold a stop string, as a function; None where there is none."""
    if not stop:
        return None
    return lambda ids: find_stop(tokenizer.decode(ids), stop) is not None


class RowStops:
    """Ends each row of a batch at its first stop string (`generate.Stops`)."""

    def __init__(self, tokenizer: Tokenizer, *, rows: int, stop: Sequence[str]) -> None:
        self.streams = [TextStream(tokenizer, stop=stop) for _ in range(rows)]
        self.read = 0  # steps

    def __call__(self, steps: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """Steps so far, (B) each, and lengths (B), 0 for rows that go on -> the lengths, with those that end now."""
        columns = torch.stack(list(steps[self.read :]), dim=1).tolist()
        now = lengths.tolist()
        for row, (stream, tokens) in enumerate(zip(self.streams, columns, strict=True)):
            for place, token in enumerate(tokens, start=self.read + 1):
                if now[row] == 0 and not stream.stopped:
                    stream.push(token)
                    now[row] = place if stream.stopped else 0
        self.read = len(steps)
        return torch.tensor(now, dtype=lengths.dtype, device=lengths.device)
