"""A live server on loopback with the tiny random model."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from muomni.inference.decoding.options import GenerationOptions, preset
from muomni.inference.embedding import Embedder
from muomni.inference.engine import Engine
from muomni.serving.app import make_state
from muomni.serving.server import Server, make_server
from muomni.serving.settings import ServerSettings
from muomni.serving.state import ServerState
from tests.unit.inference.conftest import engine, export, parts, picture, sound, tokenizer_path  # noqa: F401

OPTIONS = preset("greedy", max_new_tokens=8)


class Live:
    """A server in a thread."""

    def __init__(
        self,
        engine: Engine,  # noqa: F811
        *,
        embedder: Embedder | None = None,
        options: GenerationOptions = OPTIONS,
        **settings: object,
    ) -> None:
        own = replace(ServerSettings(), port=0, model="tiny", **settings)
        self.state: ServerState = make_state(engine, own, options, embedder=embedder)
        self.server: Server = make_server(self.state)
        ready = threading.Event()
        self.url = ""

        def note(url: str) -> None:
            self.url = url
            ready.set()

        self.server.announce(note)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        assert ready.wait(60), "the server did not start"
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def stop(self) -> None:
        self.http.close()
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive(), "the server did not stop"


@pytest.fixture(scope="module")
def live(engine: Engine) -> Iterator[Live]:  # noqa: F811
    server = Live(engine)
    yield server
    server.stop()


@pytest.fixture
def start(engine: Engine) -> Iterator[object]:  # noqa: F811
    """A server with other settings."""
    servers = []

    def begin(**settings: object) -> Live:
        servers.append(Live(engine, **settings))
        return servers[-1]

    yield begin
    for each in servers:
        each.stop()


def wait_until(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
