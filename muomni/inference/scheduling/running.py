"""One request of the scheduler, from its prompt to its answer.

Shapes: T tokens, D width, V vocabulary.
"""

import logging
import time
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.answer import Answer, Piece, TokenLogprob
from muomni.inference.decoding.detokenizer import Detokenizer
from muomni.inference.decoding.logprobs import LogprobRecorder
from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.decoding.sampling import INVALID_TOKEN, NOT_FINITE, Sampler
from muomni.inference.decoding.timings import Timings
from muomni.inference.errors import MuomniError
from muomni.inference.scheduling.slots import Signature
from muomni.models.thinker import Thinker
from muomni.special_tokens import EOS

log = logging.getLogger(__name__)

Emit = Callable[[Piece | Answer | Exception], None]


class Constraint(Protocol):
    """Limits which tokens may follow."""

    @property
    def accepting(self) -> bool:
        """True if the answer may end here."""
        ...

    def allowed(self) -> Tensor:
        """(V) bool, on the CPU: the tokens that may follow, EOS among them if `accepting`."""
        ...

    def push(self, token: int) -> None:
        """Read the next token, one of those allowed."""
        ...


class Ticket:
    """A submitted request. `done`: its answer, or the error that ended it, has been emitted, or is being emitted."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.done = False
        self.cancelled = False
        self._wake = wake

    def cancel(self) -> None:
        """End the request with `Cancelled` at the next step; a no-op if it is done. From any thread."""
        self.cancelled = True
        self._wake()


class Running:
    """A request with its prompt, ids (T), and what has been generated of its answer.

    embeddings: (1, T, D) of a prompt with media, None without. limit: most tokens of the answer.
    """

    def __init__(
        self,
        *,
        ids: Tensor,
        embeddings: Tensor | None,
        signature: Signature,
        options: GenerationOptions,
        limit: int,
        constraint: Constraint | None,
        tokenizer: Tokenizer,
        ticket: Ticket,
        emit: Emit,
    ) -> None:
        self.ids, self.embeddings, self.signature = ids, embeddings, signature
        self.options, self.limit, self.constraint = options, limit, constraint
        self.ticket, self._emit = ticket, emit
        self.sampler: Sampler | None = None  # of options that cannot share one with other requests
        self.tokenizer = tokenizer
        self.detokenizer = Detokenizer(tokenizer, stop=options.stop)
        self.tokens: list[int] = []  # without EOS
        self.texts: list[str] = []  # emitted
        self.emitted = 0  # tokens
        self.recorder = None if options.logprobs is None else LogprobRecorder(options.logprobs)
        self.timings = Timings(prompt_tokens=len(ids))
        self.row = -1  # of the cache
        self.cached = 0  # tokens of the prompt that the row held already
        self.alone: Thinker | None = None  # what computes it where it is the only one, from its first such step on
        self.exact = False  # all of the row was computed as the engine computes it
        self.started = time.perf_counter()  # of the prefill

    def push(self, token: int | Exception, logits: Tensor) -> Answer | None:
        """Read a generated token, emit the text that became certain; the answer if this was its end. logits: (1, V) of the model
        that it was chosen from, for `logprobs`. Raises MuomniError if they were not finite, and an exception in a token's
        place."""
        if isinstance(token, Exception):
            raise token
        if token == INVALID_TOKEN:
            raise MuomniError(NOT_FINITE)
        if token == EOS:
            return self._finish("stop")
        self.tokens.append(token)
        if self.recorder is not None:
            self.recorder.push(logits, torch.tensor([token], device=logits.device))
        text = self.detokenizer.push(token)
        if text:
            self._emit_text(text)
        if self.detokenizer.stopped or self._is_complete(token):
            return self._finish("stop")
        return self._finish("length") if len(self.tokens) == self.limit else None

    def _is_complete(self, token: int) -> bool:
        """True if the constraint allows nothing but the end: a step for it would be wasted."""
        if self.constraint is None:
            return False
        self.constraint.push(token)
        return self.constraint.accepting and int(self.constraint.allowed().sum()) == 1

    def _finish(self, reason: str) -> Answer:
        rest = self.detokenizer.close()
        if rest or (self.recorder is not None and self.emitted < len(self.tokens)):
            self._emit_text(rest)
        self.timings.new_tokens = len(self.tokens)
        self.timings.text_cut = reason == "length"
        return Answer(
            text="".join(self.texts),
            finish_reason=reason,  # type: ignore[arg-type]
            prompt_tokens=len(self.ids),
            cached_tokens=self.cached,
            completion_tokens=len(self.tokens),
            logprobs=self._logprobs(0),
            timings=self.timings,
        )

    def _emit_text(self, text: str) -> None:
        """Emit a piece, with the tokens since the one before."""
        self.texts.append(text)
        begin, self.emitted = self.emitted, len(self.tokens)
        self._send(Piece(text, self._logprobs(begin) or []))

    def _logprobs(self, begin: int) -> list[TokenLogprob] | None:
        """Of the tokens from `begin` on, None if they were not requested."""
        return (
            None if self.recorder is None else self.recorder.row(self.tokenizer, 0, begin=begin, end=len(self.tokens))
        )

    def end(self, result: Answer | Exception) -> None:
        """Emit the last thing of this request."""
        self.ticket.done = True
        self._send(result)

    def _send(self, item: Piece | Answer | Exception) -> None:
        try:
            self._emit(item)
        except Exception:
            log.exception("a receiver of an answer failed: its request is cancelled")
            self.ticket.cancel()
