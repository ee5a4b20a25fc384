"""The process: uvicorn with limits (protocols.py), and a stop in which streams end properly.

At SIGTERM or Ctrl-C: new requests are answered by 503, running answers have `grace` seconds, then they are cancelled, which
their clients read as an error event and the end of the stream; then the process ends.
"""

import logging
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from muomni.serving.app import create_app
from muomni.serving.protocols import BoundedHttp, BoundedWebSocket
from muomni.serving.state import ServerState

log = logging.getLogger(__name__)

MAX_HEADERS = 32 * 1024  # bytes
LAST_SECONDS = 5.0  # after the grace, for the last events to be sent


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
        "http": BoundedHttp,
        "ws": BoundedWebSocket,
        "ws_max_size": 1 << 20,
        "h11_max_incomplete_event_size": MAX_HEADERS,
        "limit_concurrency": 2 * settings.max_connections + 16,  # connections, idle ones among them
        "timeout_keep_alive": 30,
        "timeout_graceful_shutdown": round(settings.grace + LAST_SECONDS),
        "server_header": False,
        "proxy_headers": False,
        "access_log": False,
        "log_config": None,
    }
    return Server(uvicorn.Config(create_app(state), **options), state)
