"""Streaming detokenization: text is emitted only once no later token can change it.

Held back are characters whose bytes are incomplete, and text that may become a stop string.

Not transformers' TextStreamer: it takes a single row and knows no stop strings.

Shapes: B rows.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from muomni.frontends.tokenizer import Tokenizer

INCOMPLETE = "\ufffd"


def find_stop(text: str, stop: Sequence[str]) -> int | None:
    """Index of the earliest stop string in the text, or None."""
    return min((index for index in (text.find(word) for word in stop) if index >= 0), default=None)


class Detokenizer:
    """`push` each token, then `close`; the returned pieces joined are the whole text, cut at the first stop string."""

    def __init__(self, tokenizer: Tokenizer, *, stop: Sequence[str]) -> None:
        self.tokenizer, self.stop = tokenizer, tuple(stop)
        self.ids: list[int] = []
        self.emitted = 0  # characters
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that became certain with this token."""
        self.ids.append(token)
        text = self.tokenizer.decode(self.ids)
        end = find_stop(text, self.stop)
        if end is not None:
            self.stopped = True
            return self._emit(text, end)
        certain = len(text.rstrip(INCOMPLETE))
        return self._emit(text, certain - self._partial_stop(text[:certain]))

    def close(self) -> str:
        """The text held back so far; no more tokens follow."""
        if self.stopped:
            return ""
        text = self.tokenizer.decode(self.ids)
        return self._emit(text, len(text))

    def _partial_stop(self, text: str) -> int:
        """Length of the longest suffix of the text that is a prefix of a stop string."""
        longest = max((len(word) for word in self.stop), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(word.startswith(text[-length:]) for word in self.stop):
                return length
        return 0

    def _emit(self, text: str, end: int) -> str:
        piece = text[self.emitted : end]
        self.emitted = max(self.emitted, end)
        return piece


def detokenize(tokenizer: Tokenizer, ids: Sequence[int], *, stop: Sequence[str]) -> str:
    """The whole text at once: the joined pieces of a `Detokenizer`."""
    if not stop:
        return tokenizer.decode(ids)
    stream = Detokenizer(tokenizer, stop=stop)
    pieces: list[str] = []
    for token in ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    return "".join(pieces) + stream.close()


def stop_predicate(tokenizer: Tokenizer, stop: Sequence[str]) -> Callable[[Sequence[int]], bool] | None:
    """A predicate: True if the text of ids holds a stop string. None for no stop strings."""
    if not stop:
        return None
    return lambda ids: find_stop(tokenizer.decode(ids), stop) is not None


class RowStops:
    """Ends each row of a batch at its first stop string (`generate.Stops`)."""

    def __init__(self, tokenizer: Tokenizer, *, rows: int, stop: Sequence[str]) -> None:
        self.streams = [Detokenizer(tokenizer, stop=stop) for _ in range(rows)]
        self.processed = 0  # steps

    def __call__(self, steps: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """See `generate.Stops`; steps (B) each."""
        rows = torch.stack(list(steps[self.processed :]), dim=1).tolist()
        updated = lengths.tolist()
        for row, (stream, tokens) in enumerate(zip(self.streams, rows, strict=True)):
            for length, token in enumerate(tokens, start=self.processed + 1):
                if updated[row] == 0 and not stream.stopped:
                    stream.push(token)
                    updated[row] = length if stream.stopped else 0
        self.processed = len(steps)
        return torch.tensor(updated, dtype=lengths.dtype, device=lengths.device)
