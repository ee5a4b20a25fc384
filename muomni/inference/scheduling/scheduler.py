"""Continuous batching of the Thinker: one thread computes all its steps, and requests join and leave between two of them.

An iteration of the thread ends what was cancelled, admits a request from the queue and prefills at most `prefill_chunk` tokens
of prompts, so that long prompts do not stall the others, and computes one token of every active request (steps.py).
Images and audio are encoded in the thread that submits them, and those of earlier turns kept (encoder_cache.py).

A request's tokens are those of its single run by the engine. The number of rows changes the rounding of float32; where that could
decide a token, the request is computed once more, alone (replay.py).

After Orca (Yu et al. 2022, OSDI) and Sarathi (Agrawal et al. 2023, arXiv:2308.16369).
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from muomni.inference.answer import Answer
from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.encoder_cache import EncoderCache
from muomni.inference.engine import Engine
from muomni.inference.errors import Cancelled, InvalidOption
from muomni.inference.prompt import Request
from muomni.inference.scheduling.running import Constraint, Emit, Running, Ticket
from muomni.inference.scheduling.slots import Signature, prompt_signature
from muomni.inference.scheduling.steps import Steps
from muomni.inference.scheduling.worker import Worker, check_counts
from muomni.user_path import user_path

log = logging.getLogger(__name__)

ENCODED_BYTES = 64 << 20  # features of images and audio that are kept; a second of speech takes some 25 kB


@dataclass(frozen=True, slots=True)
class SchedulerStats:
    """Requests now, and counts since the start. mean_batch: requests per decode step. replayed: tokens
    that were computed once more (replay.py)."""

    active: int
    queued: int
    slots: int
    finished: int
    cancelled: int
    failed: int
    prompt_tokens: int
    cached_tokens: int
    new_tokens: int
    replayed: int
    steps: int
    mean_batch: float


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A request with its media encoded: for several answers to it. ids (T), embeddings (1, T, D) or None without media."""

    ids: Tensor
    embeddings: Tensor | None
    signature: Signature


class Scheduler(Worker[Running]):
    """Answers many requests at once by an engine's Thinker.

    Args:
        slots: requests that decode together. max_queue: requests that wait for a slot. prefill_chunk: tokens of prompts that are
            read between two steps. compile: of the steps (compiled_rows.py), None: that of the engine. packages: of `load_model`.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        slots: int = 8,
        max_queue: int = 64,
        prefill_chunk: int = 64,
        compile: str | None = None,
        packages: str | Path | None = None,
    ) -> None:
        super().__init__("requests", slots=slots, max_queue=max_queue)
        check_counts(prefill_chunk=prefill_chunk)
        self.prompter = engine.require_prompter()
        self.encoded = EncoderCache(max_bytes=ENCODED_BYTES)
        self.steps = Steps(
            self.prompter.thinker,
            engine.require_runtime(),
            slots=slots,
            prefill_chunk=prefill_chunk,
            end=self._end,
            compile=compile,
            packages=None if packages is None else user_path(packages),
        )
        self.counts = dict.fromkeys(
            ("finished", "cancelled", "failed", "prompt_tokens", "cached_tokens", "new_tokens"), 0
        )
        self._preparing = (
            0  # requests whose media are being encoded: they have a place in the queue; guarded by the lock
        )
        self._thread.start()

    # --- any thread --------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def read(self, request: Request) -> ReadRequest:
        """What `submit` does first. Raises MuomniErrors for media and too long prompts."""
        features = self.prompter.encode_media(request, cache=self.encoded)
        # max_new_tokens is the most, not a promise: an answer may end where the context does.
        prompt = self.prompter.fitting(request, features, max_new_tokens=None)
        has_media = features.images is not None or features.audios is not None
        embeddings = self.prompter.embed(prompt.ids[None], [features]) if has_media else None
        return ReadRequest(
            prompt.ids, embeddings, prompt_signature(prompt.ids, None if embeddings is None else embeddings[0])
        )

    def submit(
        self,
        request: Request | ReadRequest,
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
        options.check_vocabulary(self.prompter.thinker.vocab_size)
        with self._changed:
            self._check_room(len(self._queue) + self._preparing)
            self._preparing += 1
        try:
            running = self._prepare(request, options, emit=emit, constraint=constraint)
        finally:
            with self._changed:
                self._preparing -= 1
        with self._changed:
            self._check_open()
            self._put(running, client=client)
        return running.ticket

    def close(self, *, grace: float) -> None:
        """As of `Worker`."""
        super().close(grace=grace)
        self.steps.close()

    def stats(self) -> SchedulerStats:
        """Numbers for monitoring."""
        with self._changed:
            queued = len(self._queue) + self._preparing
        steps = self.steps
        return SchedulerStats(
            active=len(steps.requests),
            queued=queued,
            slots=self.num_slots,
            steps=steps.steps,
            replayed=steps.replayed,
            mean_batch=steps.rows / max(steps.steps, 1),
            **self.counts,
        )

    def _prepare(
        self,
        request: Request | ReadRequest,
        options: GenerationOptions,
        *,
        emit: Emit,
        constraint: Constraint | None,
    ) -> Running:
        read = self.read(request) if isinstance(request, Request) else request
        space = self.prompter.context - len(read.ids) + 1  # the last token needs no slot
        return Running(
            ids=read.ids,
            embeddings=read.embeddings,
            signature=read.signature,
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
                self.steps.prefill(self._admit)
                self.steps.step()
            except Exception as error:  # out of memory, for example: later requests are answered all the same
                log.exception("a step of %d requests failed", len(self.steps.active))
                self.steps.fail(error)

    def _has_work(self) -> bool:
        return bool(self.steps.active or self.steps.prefilling or self._queue)

    def _drop_cancelled(self) -> None:
        with self._changed:
            if not (self._has_cancelled or self._aborting):
                return
            self._has_cancelled, everything = False, self._aborting
            dropped = self._queue.remove(lambda running: everything or running.ticket.cancelled)
        for running in reversed(self.steps.requests):
            if everything or running.ticket.cancelled:
                self.steps.remove(running)
                dropped.append(running)
        for running in dropped:
            self._end(running, Cancelled("the request was cancelled"))

    def _admit(self) -> Running | None:
        with self._changed:
            return self._queue.pop() if self._queue else None

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
            self._note_seconds(time.perf_counter() - running.started)
        running.end(result)
