"""Continuous batching of the Thinker: one thread computes all its steps, and requests join and leave between two of them.

An iteration of the thread ends what was cancelled, admits a request from the queue and prefills at most `prefill_chunk` tokens
of prompts, so that long prompts do not stall the others, and computes one token of every active request (slots.py, sampling.py).
Images and audio are encoded in the thread that submits them.

A request's tokens are those of its single run by the engine, up to the rounding of float32: the number of rows changes the order
of sums, not the computation (docs/decoding.md has how often that decides a token).

After Orca (Yu et al. 2022, OSDI) and Sarathi (Agrawal et al. 2023, arXiv:2308.16369).

Shapes: n active requests, T tokens, V vocabulary.
"""

import logging
import threading
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from muomni.inference.answer import Answer
from muomni.inference.decoding.generate import decode_step, prefill
from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.engine import Engine
from muomni.inference.errors import Cancelled, InvalidOption, QueueFull
from muomni.inference.prompt import Request
from muomni.inference.scheduling.queue import FairQueue
from muomni.inference.scheduling.running import Constraint, Emit, Running, Ticket
from muomni.inference.scheduling.sampling import make_sampler, sample_rows
from muomni.inference.scheduling.slots import RowCache, SlotCache, StepCache, prompt_signature

log = logging.getLogger(__name__)

ROWS_PER_SLOT = 2  # the rest keep the history of conversations whose user is reading or writing
MIN_RETRY, SMOOTHING = 1.0, 0.1  # seconds; weight of the last request in the mean duration


@dataclass(frozen=True, slots=True)
class SchedulerStats:
    """Requests now, and counts since the start. mean_batch: requests per decode step."""

    active: int
    queued: int
    slots: int
    finished: int
    cancelled: int
    failed: int
    prompt_tokens: int
    cached_tokens: int
    new_tokens: int
    steps: int
    mean_batch: float


class Scheduler:
    """Answers many requests at once by an engine's Thinker.

    Args:
        slots: requests that decode together. max_queue: requests that wait for a slot. prefill_chunk: tokens of prompts that are
            read between two steps.
    """

    def __init__(self, engine: Engine, *, slots: int = 8, max_queue: int = 64, prefill_chunk: int = 64) -> None:
        for name, value in (("slots", slots), ("max_queue", max_queue), ("prefill_chunk", prefill_chunk)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidOption(f"{name}={value!r}: a whole number, at least 1, is needed", param=name)
        self.prompter = engine.require_prompter()
        self.thinker, self.device = self.prompter.thinker, self.prompter.device
        self.num_slots, self.max_queue, self.prefill_chunk = slots, max_queue, prefill_chunk
        self.cache = SlotCache(self.thinker, rows=ROWS_PER_SLOT * slots)
        self.active: list[Running] = []  # of row i of the cache, for each i
        self.prefilling: Running | None = None
        self.counts = dict.fromkeys(
            ("finished", "cancelled", "failed", "prompt_tokens", "cached_tokens", "new_tokens", "steps", "rows"), 0
        )
        self.mean_seconds = 0.0  # of a request
        self._changed = threading.Condition()  # guards what follows
        self._queue: FairQueue[Running] = FairQueue()
        self._preparing = 0  # requests whose media are being encoded: they have a place in the queue
        self._has_cancelled = self._closing = self._aborting = False
        self._thread = threading.Thread(target=self._run, name="muomni-scheduler", daemon=True)
        self._thread.start()

    # --- any thread --------------------------------------------------------------------------------------------

    def submit(
        self,
        request: Request,
        options: GenerationOptions,
        *,
        emit: Emit,
        client: str = "",
        constraint: Constraint | None = None,
    ) -> Ticket:
        """Queue a request. `emit` is called from the scheduler's thread and must not block: with Pieces, then with one Answer
        or the exception that ended it. client: whose turn it is; clients take turns. constraint: limits the tokens.

        Raises what can be known at once: MuomniErrors for options, media and too long prompts, QueueFull, and Cancelled after
        `close`.
        """
        if options.num_beams > 1:
            raise InvalidOption(
                f"num_beams={options.num_beams}: requests that share steps take one beam; leave it out",
                param="num_beams",
            )
        with self._changed:
            self._check_open()
            waiting = len(self._queue) + self._preparing
            if waiting >= self.max_queue:
                retry = max(MIN_RETRY, self.mean_seconds * (waiting + 1) / self.num_slots)
                raise QueueFull(f"{waiting} requests are waiting: try again in {retry:.0f} s", retry_after=retry)
            self._preparing += 1
        try:
            running = self._prepare(request, options, emit=emit, constraint=constraint)
        finally:
            with self._changed:
                self._preparing -= 1
        with self._changed:
            self._check_open()
            self._queue.put(running, client=client)
            self._changed.notify()
        return running.ticket

    def stats(self) -> SchedulerStats:
        """Numbers for monitoring."""
        with self._changed:
            queued = len(self._queue) + self._preparing
        counts = dict(self.counts)
        rows = counts.pop("rows")
        return SchedulerStats(
            active=len(self.active) + (self.prefilling is not None),
            queued=queued,
            slots=self.num_slots,
            mean_batch=rows / max(counts["steps"], 1),
            **counts,
        )

    def close(self, *, grace: float) -> None:
        """Take no more requests, wait up to `grace` seconds for those submitted, then cancel the rest."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(min(max(grace, 0.0), threading.TIMEOUT_MAX))
        with self._changed:
            self._aborting = True
            self._changed.notify()
        self._thread.join()

    def _check_open(self) -> None:
        if self._closing:
            raise Cancelled("the scheduler is closed: no more requests are taken")

    def _wake(self) -> None:
        with self._changed:
            self._has_cancelled = True
            self._changed.notify()

    @torch.inference_mode()
    def _prepare(
        self, request: Request, options: GenerationOptions, *, emit: Emit, constraint: Constraint | None
    ) -> Running:
        features = self.prompter.encode_media(request)
        prompt = self.prompter.fitting(request, features, max_new_tokens=options.max_new_tokens)
        has_media = features.images is not None or features.audios is not None
        embeddings = self.prompter.embed(prompt.ids[None], [features]) if has_media else None
        space = self.prompter.context - len(prompt) + 1  # the last token needs no slot
        return Running(
            ids=prompt.ids,
            embeddings=embeddings,
            signature=prompt_signature(prompt.ids, None if embeddings is None else embeddings[0]),
            options=options,
            limit=min(space, options.max_new_tokens or space),
            constraint=constraint,
            tokenizer=self.prompter.tokenizer,
            ticket=Ticket(self._wake),
            emit=emit,
        )

    # --- the scheduler's thread --------------------------------------------------------------------------------

    @torch.inference_mode()
    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._has_work() or self._has_cancelled or self._closing):
                    self._changed.wait()
                if self._closing and not self._has_work():
                    return
            try:
                self._drop_cancelled()
                self._prefill()
                self._step()
            except Exception as error:  # out of memory, for example: later requests are answered all the same
                log.exception("a step of %d requests failed", len(self.active))
                self._fail_active(error)

    def _has_work(self) -> bool:
        return bool(self.active or self.prefilling or self._queue)

    def _drop_cancelled(self) -> None:
        with self._changed:
            if not (self._has_cancelled or self._aborting):
                return
            self._has_cancelled, everything = False, self._aborting
            dropped = self._queue.remove(lambda running: everything or running.ticket.cancelled)
        if self.prefilling is not None and (everything or self.prefilling.ticket.cancelled):
            dropped.append(self.prefilling)
            self.prefilling = None
        for running in reversed(self.active.copy()):
            if everything or running.ticket.cancelled:
                self._leave(running)
                dropped.append(running)
        for running in dropped:
            self._end(running, Cancelled("the request was cancelled"))

    def _admit(self) -> Running | None:
        """The request that is prefilled next."""
        if self.prefilling is None and len(self.active) < self.num_slots:
            with self._changed:
                running = self._queue.pop() if self._queue else None
            if running is not None:
                running.started = time.perf_counter()
                idle = range(len(self.active), len(self.cache.lengths))
                running.row, running.cached = self.cache.acquire(running.signature, idle)
                self.prefilling = running
        return self.prefilling

    def _prefill(self) -> None:
        """Read prompts, up to `prefill_chunk` tokens. How a prompt is cut into chunks does not depend on the others."""
        budget = self.prefill_chunk
        while (running := self._admit()) is not None:
            begin = int(self.cache.lengths[running.row])
            end = min(begin + self.prefill_chunk, len(running.ids))
            budget -= end - begin
            if budget < 0:
                return
            try:
                with running.timings.span("prefill"):
                    logits = self._read_chunk(running, begin, end)
                answer = self._first_token(running, logits) if end == len(running.ids) else None
            except Exception as error:
                self.prefilling = None
                self.cache.forget(running.row)
                self._end(running, error)
                continue
            if end == len(running.ids):
                self.prefilling = None
                self._join(running, answer)

    def _read_chunk(self, running: Running, begin: int, end: int) -> Tensor:
        """Append tokens of the prompt to its row -> logits (1, V)."""
        ids = running.ids[None, begin:end].to(self.device)
        embeddings = None if running.embeddings is None else running.embeddings[:, begin:end]
        logits = prefill(self.thinker, ids, RowCache(self.cache, running.row, count=end - begin), embeddings=embeddings)
        self.cache.lengths[running.row] = end
        return logits

    def _first_token(self, running: Running, logits: Tensor) -> Answer | None:
        """Choose the first token of an answer; the answer if it ends there."""
        running.sampler = make_sampler(running, device=self.device, vocab_size=self.thinker.vocab_size)
        with running.timings.span("sampling"):
            (token,) = sample_rows([running], logits)
        return running.push(token)

    def _join(self, running: Running, answer: Answer | None) -> None:
        """A prefilled request becomes active, or ends."""
        if answer is not None:
            self._end(running, answer)
            return
        self.cache.swap(running.row, len(self.active))
        running.row = len(self.active)
        self.active.append(running)

    def _step(self) -> None:
        """One token of every active request."""
        rows = self.active.copy()
        if not rows:
            return
        start = time.perf_counter()
        logits = self._decode(rows)
        middle = time.perf_counter()
        chosen = sample_rows(rows, logits)
        end = time.perf_counter()
        self.counts["steps"] += 1
        self.counts["rows"] += len(rows)
        for running in rows:
            self.cache.extend(running.row, running.tokens[-1])
            running.timings.model += middle - start
            running.timings.sampling += end - middle
        for running, token in reversed(list(zip(rows, chosen, strict=True))):  # leaving moves the last row
            try:
                answer = running.push(token)
            except Exception as error:
                self.cache.forget(self._leave(running))
                self._end(running, error)
                continue
            if answer is not None:
                self._leave(running)
                self._end(running, answer)

    def _decode(self, rows: list[Running]) -> Tensor:
        """The last tokens of the active rows -> logits (n, V)."""
        last = [running.tokens[-1] for running in rows]
        if len(rows) == 1:  # exactly the engine's step
            return decode_step(self.thinker, torch.tensor(last, device=self.device), RowCache(self.cache, 0, count=1))
        lengths = self.cache.lengths[: len(rows)].tolist()
        tokens, positions = torch.tensor([last, lengths]).to(self.device)
        cache = StepCache(self.cache, positions, longest=max(lengths))
        output = self.thinker(tokens[:, None], positions=positions[:, None], cache=cache, last_only=True)
        logits: Tensor = output.logits[:, -1]
        return logits

    def _leave(self, running: Running) -> int:
        """Take a request out of the active rows; what it held is kept in the returned row, for prompts that begin so."""
        row, last = running.row, len(self.active) - 1
        self.cache.swap(row, last)
        self.active[row] = self.active[last]
        self.active[row].row = row
        self.active.pop()
        return last

    def _fail_active(self, error: Exception) -> None:
        """End all requests that were in a failed step."""
        failed = self.active + ([] if self.prefilling is None else [self.prefilling])
        self.active, self.prefilling = [], None
        for running in failed:
            self.cache.forget(running.row)
            self._end(running, error)

    def _end(self, running: Running, result: Answer | Exception) -> None:
        """Emit the last thing of a request, and count it."""
        self.counts["new_tokens"] += len(running.tokens)
        if running.row >= 0:
            self.counts["prompt_tokens"] += len(running.ids)
            self.counts["cached_tokens"] += running.cached
        outcome = (
            "finished" if isinstance(result, Answer) else "cancelled" if isinstance(result, Cancelled) else "failed"
        )
        self.counts[outcome] += 1
        if outcome == "finished":
            seconds = time.perf_counter() - running.started
            self.mean_seconds += (seconds - self.mean_seconds) * (SMOOTHING if self.mean_seconds else 1.0)
        running.end(result)
