"""The application: routes, and around them who may call (`security.py`), how errors look, and what is counted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from muomni import __version__, heap
from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.embedding import Embedder
from muomni.inference.engine import Engine
from muomni.inference.scheduling.scheduler import Scheduler
from muomni.inference.scheduling.speech_scheduler import SpeechScheduler
from muomni.serving import errors
from muomni.serving.metrics import Metrics
from muomni.serving.observe import Observe
from muomni.serving.routes import chat, completions, embeddings, models, realtime, speech, status, transcriptions
from muomni.serving.security import Gate
from muomni.serving.settings import ServerSettings
from muomni.serving.state import ServerState

HEAP_SECONDS = 30.0  # between two returns of free memory
STATIC = Path(__file__).parent / "static"
ROUTES = (chat, completions, speech, transcriptions, embeddings, realtime, models, status)


def make_state(
    engine: Engine,
    settings: ServerSettings,
    options: GenerationOptions,
    *,
    embedder: Embedder | None = None,
    compile: str = "none",
    packages: str | None = None,
) -> ServerState:
    """Start the schedulers of what the export can do. `ServerState.close` ends them. compile, packages: of `Scheduler`."""
    scheduler = speech_scheduler = None
    if "thinker" in engine.modules or compile not in ("none", "auto"):
        scheduler = Scheduler(
            engine,
            slots=settings.slots,
            max_queue=settings.max_queue,
            prefill_chunk=settings.prefill_chunk,
            compile=compile,
            packages=packages,
        )
    if engine.speaker is not None:
        speech_scheduler = SpeechScheduler(engine, slots=settings.speech_slots, max_queue=settings.max_queue)
    state = ServerState(
        engine=engine,
        settings=settings,
        options=options,
        scheduler=scheduler,
        speech=speech_scheduler,
        embedder=embedder,
    )
    _add_gauges(state.metrics, state)
    return state


async def _give_back_memory() -> None:
    """Free memory to the system, every `HEAP_SECONDS`, until it is cancelled."""
    while True:
        await asyncio.sleep(HEAP_SECONDS)
        await asyncio.to_thread(heap.give_back)


def create_app(state: ServerState) -> FastAPI:
    """The ASGI application of a state. It closes the state when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        memory = asyncio.create_task(_give_back_memory())
        yield
        memory.cancel()
        state.close(grace=0.0)

    app = FastAPI(
        title="muomni",
        version=__version__,
        description="An omni model behind OpenAI's API: text, images and speech in; text and speech out.",
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # an address made of the Host header; after a proxy it is the wrong one
    )
    app.state.muomni = state
    errors.add_handlers(app)
    for each in ROUTES:
        app.include_router(each.router)
    if state.settings.page:
        _add_page(app)
    app.add_middleware(Gate, settings=state.settings)
    app.add_middleware(Observe, metrics=state.metrics)
    return app


def _add_page(app: FastAPI) -> None:
    app.mount("/page", StaticFiles(directory=STATIC), name="page")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


def _add_gauges(metrics: Metrics, state: ServerState) -> None:
    gauges: dict[str, tuple[str, Any]] = {
        "muomni_waiting_jobs": ("Transcripts, embeddings and media that wait.", lambda: state.jobs.waiting)
    }
    if (scheduler := state.scheduler) is not None:
        gauges["muomni_active_answers"] = ("Answers being written.", lambda: scheduler.stats().active)
        gauges["muomni_queued_answers"] = ("Requests that wait for a slot.", lambda: scheduler.stats().queued)
    if (speaking := state.speech) is not None:
        gauges["muomni_active_utterances"] = ("Texts being spoken.", lambda: speaking.stats().active)
        gauges["muomni_queued_utterances"] = ("Texts that wait to be spoken.", lambda: speaking.stats().queued)
    for name, (description, value) in gauges.items():
        metrics.gauge(name, description, value)
