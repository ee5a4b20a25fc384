"""The process: uvicorn with bounded headers, and a stop in which streams end properly.

At SIGTERM or Ctrl-C: new requests are answered by 503, running answers have `grace` seconds, then they are cancelled, which
their clients read as an error event and the end of the stream; then the process ends.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from muomni.serving.app import create_app
from muomni.serving.state import ServerState

log = logging.getLogger(__name__)

HEADER_SECONDS = 10.0  # for the headers of a request, and until a new connection's first one
MAX_HEADERS = 32 * 1024  # bytes
LAST_SECONDS = 5.0  # after the grace, for the last events to be sent


class BoundedProtocol(H11Protocol):
    """Closes connections whose headers do not arrive in time."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._watch()
        else:
            self._forget()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """Ends answers properly. `handle_exit` is called from the signal handler."""

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config)
        self.state = state
        self._on_ready: Callable[[str], None] = lambda url: None

    def announce(self, on_ready: Callable[[str], None]) -> None:
        """Call `on_ready` with the server's address once it answers."""
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.state.draining:
            log.info("stopping: running answers have %g s", self.state.settings.grace)
            self.state.draining = True
            threading.Thread(target=self.state.close, kwargs={"grace": self.state.settings.grace}, daemon=True).start()
        super().handle_exit(sig, frame)


def make_server(state: ServerState) -> Server:
    """The server of a state; `run()` blocks until it is stopped."""
    settings = state.settings
    options: dict[str, Any] = {
        "host": settings.host.strip("[]"),
        "port": settings.port,
        "http": BoundedProtocol,
        "ws": "websockets-sansio",
        "ws_max_size": 1 << 20,
        "h11_max_incomplete_event_size": MAX_HEADERS,
        "limit_concurrency": 2 * settings.max_connections + 16,
        "timeout_keep_alive": 30,
        "timeout_graceful_shutdown": round(settings.grace + LAST_SECONDS),
        "server_header": False,
        "proxy_headers": False,
        "access_log": False,
        "log_config": None,
    }
    return Server(uvicorn.Config(create_app(state), **options), state)
