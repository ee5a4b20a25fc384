"""uvicorn's connections, with limits on clients that send or read too slowly.

uvicorn waits for the headers of a request, and for a client that does not read its answer, as long as the connection stands. Both
cost the client nothing: a few hundred such connections would take all places of the server.
"""

import asyncio
import json
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from muomni.serving.errors import ApiError

HEADER_SECONDS = 10.0  # for the headers of a request, and until a new connection's first one
SEND_SECONDS = 60.0  # for a client to read what waits for it


def response(error: ApiError) -> bytes:
    """An error before there is a request to answer, in the form of all others. The connection ends with it."""
    body = json.dumps(error.body).encode()
    headers = {"Content-Type": "application/json", "Connection": "close", "Content-Length": len(body)} | error.headers
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def refusal(message: str) -> bytes:
    """The response to what is no HTTP."""
    return response(ApiError(400, message, code="invalid_http"))


class BoundedWrites(asyncio.Protocol):
    """Breaks the connection if its write buffer stays full. `abort`, since `close` would wait for the buffer."""

    transport: asyncio.Transport
    _full: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._full = asyncio.get_running_loop().call_later(SEND_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_full()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_full()
        super().connection_lost(exc)

    def _forget_full(self) -> None:
        if self._full is not None:
            self._full.cancel()
            self._full = None


class BoundedHttp(BoundedWrites, H11Protocol):
    """Closes connections whose headers do not arrive in time, and refuses those that are too many: `limit_concurrency`, which
    uvicorn would answer by a line of text."""

    _timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.max_connections, self.limit_concurrency = self.limit_concurrency, None
        self.refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.refused = self.max_connections is not None and len(self.connections) > self.max_connections
        self._watch()

    def data_received(self, data: bytes) -> None:
        if self.refused:
            busy = ApiError(503, "too many connections at once", code="server_busy", headers={"Retry-After": "2"})
            self.transport.write(response(busy))
            self.transport.close()
            return
        super().data_received(data)
        if self.transport.get_protocol() is not self:  # it is a WebSocket's now
            self._forget()
        elif self.cycle is None or self.cycle.response_complete:
            self._watch()
        else:
            self._forget()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, in the form of all other errors."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # the answer has begun
            self.transport.close()
            return
        self.transport.write(refusal(msg))
        self.transport.close()

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


class BoundedWebSocket(BoundedWrites, WebSocketsSansIOProtocol):
    """The limit for messages that are not read. A handshake that cannot be parsed is answered: uvicorn would wait for ever."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.transport.is_closing():
            self.transport.write(refusal("the request for a WebSocket cannot be read: its lines are too long"))
            self.transport.close()
