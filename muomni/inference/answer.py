"""What a generation returns: plain dataclasses, without tensors, and the stream that they arrive by."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Literal

from muomni.inference.decoding.timings import Timings


@dataclass(slots=True)
class TokenLogprob:
    """A generated token, with natural log-probabilities: the log-softmax of the model's logits, before temperature, penalties
    and filters.

    text: what the token alone reads as; U+FFFD for a byte of a character that takes several tokens. top: (id, text, logprob) of
    the most likely tokens, most likely first.
    """

    id: int
    text: str
    logprob: float
    top: list[tuple[int, str, float]]


@dataclass(slots=True)
class Piece:
    """A piece of an answer while it is generated: text that no later token changes, and the tokens since the piece before
    (empty without `logprobs`)."""

    text: str
    tokens: list[TokenLogprob] = field(default_factory=list)


@dataclass(slots=True)
class Answer:
    """A whole answer.

    finish_reason: "stop" at the end token or a stop string, "length" at max_new_tokens or a full context. prompt_tokens: of the
    whole prompt, of which cached_tokens were not computed again, since a conversation's cache held them. completion_tokens:
    generated ones, those of a stop string included, the end token not. logprobs: of these tokens; None unless they were
    requested.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    logprobs: list[TokenLogprob] | None
    timings: Timings


@dataclass(slots=True)
class NBest:
    """Up to `num_beams` distinct answers to each request of a batch, best first, with their scores: the sum of an answer's
    log-probabilities, divided by its length in tokens ** `length_penalty`."""

    rows: list[list[tuple[str, float]]]
    timings: Timings


class AnswerStream(Iterator[Piece]):
    """Iterator of the pieces of an answer; its tokens are generated while it is iterated. `timings` grow meanwhile.

    The caller may stop at any piece; `close()` then ends the generation.
    """

    def __init__(self, pieces: Generator[Piece, None, Answer], timings: Timings) -> None:
        self.timings = timings
        self._pieces = pieces
        self._answer: Answer | None = None

    def __next__(self) -> Piece:
        try:
            return next(self._pieces)
        except StopIteration as end:
            self._answer = end.value or self._answer
            raise StopIteration from None

    @property
    def answer(self) -> Answer:
        """The whole answer. Raises RuntimeError before the end of the stream."""
        if self._answer is None:
            raise RuntimeError("the answer is known after the last piece: iterate to the end first")
        return self._answer

    def result(self) -> Answer:
        """Generate the rest; returns the whole answer."""
        for _ in self:
            pass
        return self.answer

    def texts(self) -> Iterator[str]:
        """The texts of the pieces, empty ones left out."""
        return (piece.text for piece in self if piece.text)

    def close(self) -> None:
        """End the generation before its end; a no-op after it."""
        self._pieces.close()
