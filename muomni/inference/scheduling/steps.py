"""The requests that are computed together: prefills in chunks, decode steps of all active rows.

Shapes: n active requests, T tokens, V vocabulary.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from muomni.inference.answer import Answer
from muomni.inference.decoding.compiled import Compiled
from muomni.inference.decoding.generate import decode_step, prefill
from muomni.inference.decoding.row_blocks import begin_with, with_row_blocks
from muomni.inference.decoding.runtime import Runtime
from muomni.inference.scheduling.compiled_rows import compile_rows
from muomni.inference.scheduling.replay import logits_alone, replay
from muomni.inference.scheduling.rows_step import RowsStep
from muomni.inference.scheduling.running import Running
from muomni.inference.scheduling.sampling import Choice, make_sampler, note_token, sample_rows
from muomni.inference.scheduling.slots import RowCache, SlotCache
from muomni.models.thinker import Thinker
from muomni.nn.cache import KVCache

ROWS_PER_SLOT = 2  # the rest keep the history of conversations whose user is reading or writing
End = Callable[[Running, Answer | Exception], None]


class Steps:
    """Rows of one cache and what is computed of them. Used by one thread, in inference mode.

    Args:
        runtime: of the engine, for requests that are computed alone. slots: most active requests. end: called with a request and
            its answer, or what ended it. compile, packages: of `compile_rows`.
    """

    def __init__(
        self,
        thinker: Thinker,
        runtime: Runtime,
        *,
        slots: int,
        prefill_chunk: int,
        end: End,
        compile: str | None = None,
        packages: Path | None = None,
    ) -> None:
        self.thinker, self.runtime, self.device = thinker, runtime, thinker.embedding.weight.device
        self.slots, self.prefill_chunk, self._end = slots, prefill_chunk, end
        self.one_row = with_row_blocks(thinker)  # as of the engine: its single run is to be the same
        self.engine_is_eager = not isinstance(runtime, Compiled)
        self.cache = SlotCache(thinker, rows=ROWS_PER_SLOT * slots)
        self.eager = RowsStep(thinker, capacity=self.cache.capacity)
        self.compiled = compile_rows(thinker, runtime, self.cache, mode=compile, packages=packages, max_rows=slots)
        self.active: list[Running] = []  # of row i of the cache, for each i
        self.prefilling: Running | None = None
        self.steps = self.rows = self.replayed = 0

    @property
    def requests(self) -> list[Running]:
        """All that have a row."""
        return [*self.active, *([] if self.prefilling is None else [self.prefilling])]

    def remove(self, running: Running) -> None:
        """Leave out a request; what its row holds is kept."""
        if running is self.prefilling:
            self.prefilling = None
        else:
            self._leave(running)

    def fail(self, error: Exception) -> None:
        """End all requests with the error of a step, and forget what their rows hold."""
        failed = self.requests
        self.active, self.prefilling = [], None
        for running in failed:
            if running.row >= 0:
                self.cache.forget(running.row)
            self._end(running, error)

    def prefill(self, admit: Callable[[], Running | None]) -> None:
        """Read prompts, up to `prefill_chunk` tokens. How a prompt is cut into chunks does not depend on the others. admit:
        returns a request that waits."""
        budget = self.prefill_chunk
        while (running := self._next(admit)) is not None:
            begin = int(self.cache.lengths[running.row])
            end = min(begin + self.prefill_chunk, len(running.ids))
            budget -= end - begin
            if budget < 0:
                return
            try:
                with running.timings.span("prefill"):
                    logits, greedy = self._read_chunk(running, begin, end)
                answer = self._first_token(running, logits, greedy) if end == len(running.ids) else None
            except Exception as error:
                self.prefilling = None
                self.cache.forget(running.row)
                self._end(running, error)
                continue
            if end == len(running.ids):
                self.prefilling = None
                self._join(running, answer)

    def _next(self, admit: Callable[[], Running | None]) -> Running | None:
        """The request that is prefilled next."""
        if self.prefilling is None and len(self.active) < self.slots:
            running = admit()
            if running is not None:
                running.started = time.perf_counter()
                self.prefilling = running  # before the next line: what fails there ends the request
                idle = range(len(self.active), len(self.cache.lengths))
                running.row, running.cached = self.cache.acquire(running.signature, idle)
                running.exact = running.cached == 0 and len(running.ids) <= self.prefill_chunk
        return self.prefilling

    def _read_chunk(self, running: Running, begin: int, end: int) -> tuple[Tensor, Tensor | None]:
        """Append tokens of the prompt to its row -> logits (1, V), and their `greedy_choices` (1, 2) if they are known."""
        self.cache.written[running.row] = end
        chosen = None
        if self.compiled is not None and running.embeddings is None:
            chosen = self.compiled.read(running.ids, running.row, begin, end)
        if chosen is not None:
            running.exact = False
            self.cache.lengths[running.row] = end
            return chosen
        ids = running.ids[None, begin:end].to(self.device)
        embeddings = None if running.embeddings is None else running.embeddings[:, begin:end]
        cache = RowCache(self.cache, running.row, count=end - begin)
        logits = prefill(self._alone_by(running), ids, cache, embeddings=embeddings)
        self.cache.lengths[running.row] = end
        return logits, None

    def _alone_by(self, running: Running) -> Thinker:
        """What computes a request where no other is, the same to its end."""
        if running.alone is None:
            running.alone = begin_with(self.one_row)
        return running.alone

    def _first_token(self, running: Running, logits: Tensor, greedy: Tensor | None) -> Answer | None:
        """Choose the first token of an answer; the answer if it ends there."""
        running.sampler = make_sampler(running, device=self.device, vocab_size=self.thinker.vocab_size)
        with running.timings.span("sampling"):
            (choice,) = sample_rows([running], logits, greedy)
            return self._push_token(running, self._decided(running, choice), logits)

    def _join(self, running: Running, answer: Answer | None) -> None:
        """A prefilled request becomes active, or ends."""
        if answer is not None:
            self._end(running, answer)
            return
        self.cache.swap(running.row, len(self.active))
        running.row = len(self.active)
        self.active.append(running)

    def step(self) -> None:
        """One token of every active request."""
        rows = self.active.copy()
        if not rows:
            return
        start = time.perf_counter()
        logits, greedy, exact = self._decode(rows)
        middle = time.perf_counter()
        chosen = sample_rows(rows, logits, greedy)
        end = time.perf_counter()
        self.steps += 1
        self.rows += len(rows)
        for running in rows:
            self.cache.extend(running.row, running.tokens[-1])
            running.exact = running.exact and exact
            running.timings.model += middle - start
            running.timings.sampling += end - middle
        for running, choice in reversed(list(zip(rows, chosen, strict=True))):  # leaving moves the last row
            row = running.row
            self._push(running, self._decided(running, choice), logits[row : row + 1])

    def _push(self, running: Running, token: int | Exception, logits: Tensor) -> None:
        """Let a request read a token; it leaves if it ended."""
        try:
            answer = self._push_token(running, token, logits)
        except Exception as error:
            self.cache.forget(self._leave(running))
            self._end(running, error)
            return
        if answer is not None:
            self._leave(running)
            self._end(running, answer)

    @staticmethod
    def _push_token(running: Running, token: int | Exception, logits: Tensor) -> Answer | None:
        """`Running.push`; its sampler is told."""
        answer = running.push(token, logits)
        if answer is None:
            assert isinstance(token, int)
            note_token(running, token)
        return answer

    def _decided(self, running: Running, choice: Choice) -> int | Exception:
        """The token of a choice; where rounding could have made it, the engine's own (replay.py)."""
        if not choice.close or running.exact:
            return choice.token
        self.replayed += 1
        try:
            token, cache = self._alone(running)
        except Exception as error:
            return error
        if token is None:
            return choice.token
        self.cache.adopt(running.row, cache)
        running.exact = True
        return token

    def _alone(self, running: Running) -> tuple[int | Exception | None, KVCache]:
        """The next token of a request that is computed once more (replay.py), and its cache."""
        prompt = running.ids, running.embeddings
        if running.constraint is None:
            return replay(self.thinker, self.runtime, *prompt, running.options, running.tokens)
        logits, cache = logits_alone(self._alone_by(running), *prompt, running.tokens)
        (choice,) = sample_rows([running], logits, None)
        return choice.token, cache

    def _decode(self, rows: list[Running]) -> tuple[Tensor, Tensor | None, bool]:
        """The last tokens of the active rows -> logits (n, V), their `greedy_choices` (n, 2) if they are known, and whether the
        engine alone computes exactly the same."""
        last = [running.tokens[-1] for running in rows]
        lengths = self.cache.lengths[: len(rows)].tolist()
        self.cache.written[: len(rows)] = self.cache.lengths[: len(rows)] + 1
        chosen = None if self.compiled is None else self.compiled(last, lengths)
        if chosen is not None:
            return *chosen, False
        if len(rows) == 1:
            ids = torch.tensor(last, device=self.device)
            logits = decode_step(self._alone_by(rows[0]), ids, RowCache(self.cache, 0, count=1))
            return logits, None, self.engine_is_eager
        tokens, positions = torch.tensor([last, lengths]).to(self.device)
        logits = self.eager(tokens, positions, self.cache.slots[: max(lengths) + 1], *self.cache.layers)
        return logits, None, False

    def close(self) -> None:
        """Steps are no longer compiled in the background."""
        if self.compiled is not None:
            self.compiled.close()

    def _leave(self, running: Running) -> int:
        """Take a request out of the active rows; what it held is kept in the returned row, for prompts that begin so."""
        row, last = running.row, len(self.active) - 1
        self.cache.swap(row, last)
        self.active[row] = self.active[last]
        self.active[row].row = row
        self.active.pop()
        return last
