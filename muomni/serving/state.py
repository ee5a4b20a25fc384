"""What all routes of an application share: engine, schedulers, settings, counters."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.engine import Engine
from muomni.inference.errors import QueueFull
from muomni.inference.scheduling.json_constraint import JsonGrammar
from muomni.inference.scheduling.scheduler import Scheduler
from muomni.inference.scheduling.speech_scheduler import SpeechScheduler
from muomni.serving.errors import ApiError
from muomni.serving.messages import SpokenAnswers
from muomni.serving.metrics import Metrics
from muomni.serving.settings import ServerSettings

T = TypeVar("T")


@dataclass(kw_only=True)
class ServerState:
    """One per application. options: of requests that name none."""

    engine: Engine
    settings: ServerSettings
    options: GenerationOptions
    scheduler: Scheduler | None
    speech: SpeechScheduler | None
    embedder: Any = None
    metrics: Metrics = field(default_factory=Metrics)
    answers: SpokenAnswers = field(default_factory=SpokenAnswers)
    started: float = field(default_factory=time.time)
    draining: bool = False
    jobs_waiting: int = 0
    sessions: int = 0  # of /v1/realtime
    _jobs: asyncio.Semaphore | None = None

    def close(self, *, grace: float) -> None:
        """End the schedulers: answers in progress have `grace` seconds, then they are cancelled. Blocks so long."""
        self.draining = True
        for each in (self.scheduler, self.speech):
            if each is not None:
                each.close(grace=grace)

    @functools.cached_property
    def grammar(self) -> JsonGrammar:
        """JSON in the model's tokens, made at the first use. Raises InvalidOption without llguidance."""
        return JsonGrammar(self.engine.require_prompter().tokenizer)

    def check_model(self, name: str) -> str:
        """The name for the answer. Raises ApiError 404 for another model."""
        if not self.settings.answers_to(name):
            raise ApiError(
                404, f"model {name[:80]!r} does not exist; this server has {self.settings.model!r}",
                param="model", code="model_not_found",
            )  # fmt: skip
        return name

    def require_scheduler(self) -> Scheduler:
        """Raises ApiError for a model that writes no text, and while the server stops."""
        self.check_running()
        if self.scheduler is None:
            raise ApiError(400, "this model has no Thinker: it writes no answers", param="model")
        return self.scheduler

    def require_speech(self) -> SpeechScheduler:
        """Raises ApiError for a model that does not speak, and while the server stops."""
        self.check_running()
        if self.speech is None:
            raise ApiError(400, "this model has no Talker: it does not speak (talker=EXPORT adds one)", param="model")
        return self.speech

    def check_running(self) -> None:
        """Raises ApiError 503 while the server stops."""
        if self.draining:
            raise ApiError(503, "the server stops; it takes no new requests", headers={"Retry-After": "5"})

    async def job(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run blocking work in a thread, `settings.jobs` at once. Raises QueueFull if too many wait."""
        async with self.job_slot():
            return await run_in_threadpool(function, *args, **kwargs)

    @asynccontextmanager
    async def job_slot(self) -> AsyncIterator[None]:
        """A turn among the blocking jobs."""
        self.check_running()
        if self._jobs is None:
            self._jobs = asyncio.Semaphore(self.settings.jobs)
        if self.jobs_waiting >= self.settings.max_queue:
            raise QueueFull("too many requests wait for this server", retry_after=5.0)
        self.jobs_waiting += 1
        try:
            await self._jobs.acquire()
        finally:
            self.jobs_waiting -= 1
        try:
            yield
        finally:
            self._jobs.release()


def state_of(request: Request) -> ServerState:
    """For `Depends`."""
    state: ServerState = request.app.state.muomni
    return state


def client_of(request: Request) -> str:
    """Who shares the queue fairly: the address."""
    return request.client.host if request.client else ""
