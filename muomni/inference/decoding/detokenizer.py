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
    """`push` each token, then `close`; the returned pieces joined are the whole text, cut at the first stop string.

    A token costs the same wherever it is: only the ids since the last complete character are decoded, after those whose text
    was completed last, since a tokenizer drops the space before a first piece. An ordinary piece is looked up.
    """

    def __init__(self, tokenizer: Tokenizer, *, stop: Sequence[str]) -> None:
        self.tokenizer, self.stop = tokenizer, tuple(stop)
        self.max_partial = (
            max((len(word) for word in self.stop), default=1) - 1
        )  # characters of an incomplete stop string
        self.context: list[int] = []  # ids whose text is complete: the last ones
        self.context_length = 0  # characters, without a space before
        self.pending: list[int] = []  # ids after those
        self.text = ""  # the end of the complete text: what is not emitted or may begin a stop string
        self.emitted = 0  # characters of `text`
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that became certain with this token."""
        if self.context and not self.pending and not self.stop:  # nothing is held back
            known = self.tokenizer.continuation(token)
            if known is not None:
                self.context = [token]
                piece, self.context_length = known
                return piece
        self.pending.append(token)
        tail = self._tail()
        text = self.text + tail
        end = find_stop(text, self.stop)
        if end is not None:
            self.stopped = True
        else:
            certain = len(text.rstrip(INCOMPLETE))
            end = certain - self._partial_stop(text[:certain])
        piece = self._emit(text, end)
        if tail and not tail.endswith(INCOMPLETE):
            self._complete(text)
        return piece

    def close(self) -> str:
        """The text held back so far; no more tokens follow."""
        if self.stopped:
            return ""
        text = self.text + self._tail()
        return self._emit(text, len(text))

    def _tail(self) -> str:
        """The text of the pending ids."""
        return self.tokenizer.decode(self.context + self.pending)[self.context_length :]

    def _complete(self, text: str) -> None:
        """The pending ids become the context, unless they alone are no text: blanks at a beginning."""
        length = len(self.tokenizer.decode(self.pending))
        if not length:
            return
        self.context, self.context_length, self.pending = self.pending, length, []
        dropped = max(0, min(self.emitted, len(text) - self.max_partial))
        self.text = text[dropped:]
        self.emitted -= dropped

    def _partial_stop(self, text: str) -> int:
        """Length of the longest suffix of the text that is a prefix of a stop string."""
        for length in range(min(self.max_partial, len(text)), 0, -1):
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
