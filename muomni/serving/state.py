"""What all routes of an application share: engine, schedulers, settings, counters."""

import asyncio
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request

from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.engine import Engine
from muomni.inference.scheduling.json_constraint import JsonGrammar
from muomni.inference.scheduling.scheduler import Scheduler
from muomni.inference.scheduling.speech_scheduler import SpeechScheduler
from muomni.serving.errors import ApiError
from muomni.serving.jobs import Jobs
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
    sessions: int = 0  # of /v1/realtime
    jobs: Jobs = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.jobs = Jobs(settings.jobs, max_waiting=settings.max_queue, seconds=settings.request_seconds)

    def close(self, *, grace: float) -> None:
        """End the schedulers: answers in progress have `grace` seconds, then they are cancelled. Blocks so long."""
        self.draining = True
        end = time.monotonic() + grace
        for each in (self.scheduler, self.speech):  # in this order: answers are spoken while they are written
            if each is not None:
                each.close(grace=max(0.0, end - time.monotonic()))

    def deadline(self) -> float:
        """When an answer that begins now must have ended, by the event loop's clock."""
        return asyncio.get_running_loop().time() + self.settings.request_seconds

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

    async def job(self, function: Callable[..., T], *args: Any, client: str, long: bool = False, **options: Any) -> T:
        """Run blocking work in a thread: see `Jobs.run`. Raises ApiError 503 while the server stops."""
        self.check_running()
        return await self.jobs.run(function, *args, client=client, long=long, **options)


def state_of(request: Request) -> ServerState:
    """For `Depends`."""
    state: ServerState = request.app.state.muomni
    return state


def client_of(request: Request) -> str:
    """Who shares the queue fairly: the address."""
    return request.client.host if request.client else ""
