"""A line in the log and a count for each request: method, path, status, time. Nothing of its content, nor of its query."""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muomni.inference.scheduling import background_build
from muomni.serving.errors import CLIENT_GONE
from muomni.serving.metrics import Metrics

log = logging.getLogger("muomni.serving.access")

#: Their lines quote texts, names of files and queries of addresses: for users at a terminal.
QUOTING = ("muomni.inference", "muomni.frontends", "uvicorn.error", "uvicorn.access", "websockets")


def quiet_loggers() -> None:
    """Leave out what is no error of those that quote content."""
    for name in QUOTING:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger(background_build.__name__).setLevel(logging.INFO)  # whether and when steps are compiled


class Observe:
    """The outermost layer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics, self.active = app, metrics, 0
        metrics.gauge("muomni_open_requests", "Requests in progress.", lambda: self.active)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        begun, status, complete = time.monotonic(), 0, False

        async def noting(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                complete = not message.get("more_body", False)
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        self.active += 1
        try:
            await self.app(scope, receive, noting)
        finally:
            self.active -= 1
            seconds = time.monotonic() - begun
            route = getattr(scope.get("route"), "path", "other")
            method = scope.get("method", "WEBSOCKET")
            if scope["type"] == "http" and (not complete or status == CLIENT_GONE):
                self.metrics.cancelled.inc()
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(seconds)
            log.info(
                "%s %s %d %.3f s", method, route if route != "other" else repr(scope["path"][:80]), status, seconds
            )
