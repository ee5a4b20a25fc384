"""Who may call, and how much of a request is taken: plain ASGI middleware, so that answers stream through unbuffered.

Checks in this order: the Host header (a web page that points its own name at 127.0.0.1 is refused: DNS rebinding), the Origin of
browsers, the key, the number of requests in progress, the size of the body and the time it takes to arrive.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muomni.serving.errors import ApiError, answer
from muomni.serving.settings import ServerSettings

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
OPEN_PATHS = ("/", "/health")  # and the page's files: they hold nothing of anyone
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(self), geolocation=(), payment=(), usb=()",
    "Content-Security-Policy": CONTENT_POLICY,
}
POLICY_CLOSED, TRY_LATER = 1008, 1013  # close codes of a WebSocket (RFC 6455)


class Gate:
    """Refuses whom the settings do not let in; adds the headers of every answer."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app, self.settings, self.active = app, settings, 0
        self.names = {name.lower() for name in (*LOCAL_NAMES, settings.host.strip("[]"), *settings.hosts)}
        self.any_host = not settings.is_local  # its names are not known here; the key protects it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin, extra = headers.get("origin", ""), {}
        if origin in self.settings.origins:  # these pages may read errors, too
            extra = {
                "Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": "Retry-After", "Vary": "Origin",
            }  # fmt: skip
        try:
            self._check(scope, headers)
        except ApiError as error:
            await refuse(error, scope, receive, _with_headers(send, extra))
            return
        if scope["type"] == "http" and scope["method"] == "OPTIONS" and extra:
            await _preflight(headers, _with_headers(send, extra))
            return
        if scope["type"] == "websocket":  # routes/realtime.py counts sessions
            await self.app(scope, receive, send)
            return
        send = _with_headers(send, extra)
        if self.active >= self.settings.max_connections:
            busy = ApiError(429, "too many requests at once", headers={"Retry-After": "2"})
            await answer(busy)(scope, receive, send)
            return
        self.active += 1
        try:
            await self.app(scope, self._bounded(headers, receive), send)
        finally:
            self.active -= 1

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = _host_name(headers.get("host", ""))
        if not self.any_host and host not in self.names:
            raise ApiError(421, f"the Host header names {host[:80]!r}, which is not this server: add it by hosts=[...]")
        origin = headers.get("origin")
        # Browsers name the page that asks. Without it (curl, SDKs) there is no page that could misuse its reader's browser.
        own = origin is None or origin.lower() in _own_origins(headers.get("host", ""))
        if not own and origin not in self.settings.origins:
            assert origin is not None
            raise ApiError(403, f"pages of {origin[:80]} may not call this server: allow them by origins=[...]")
        if self.settings.key is None or scope["path"] in OPEN_PATHS or scope["path"].startswith("/page/"):
            return
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            return
        if not hmac.compare_digest(given_key(scope, headers).encode(), self.settings.key.encode()):
            raise ApiError(
                401, "a valid key is needed: Authorization: Bearer KEY", headers={"WWW-Authenticate": "Bearer"}
            )

    def _bounded(self, headers: Headers, receive: Receive) -> Receive:
        """`receive` that raises for a body that is too long or too slow."""
        limit, length = self.settings.max_body, headers.get("content-length", "0")
        too_large = ApiError(413, f"the body is larger than {limit} bytes, which is the most this server takes")
        seen, done, deadline = 0, False, asyncio.get_running_loop().time() + self.settings.body_seconds

        async def bounded() -> Message:
            nonlocal seen, done
            if done:
                return await receive()
            if length.isdigit() and int(length) > limit:
                raise too_large
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                raise ApiError(408, f"the request did not arrive within {self.settings.body_seconds:g} s") from error
            seen += len(message.get("body", b""))
            if seen > limit:
                raise too_large
            done = not message.get("more_body", False)
            return message

        return bounded


def given_key(scope: Scope, headers: Headers) -> str:
    """The key of a request. Browsers cannot set headers of a WebSocket: OpenAI's clients put it into a subprotocol there."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    if scope["type"] == "websocket":
        prefix = "openai-insecure-api-key."
        return next((name.removeprefix(prefix) for name in scope["subprotocols"] if name.startswith(prefix)), "")
    return ""


def _own_origins(host: str) -> tuple[str, ...]:
    """How browsers name this server's own page, before and after a proxy that speaks TLS."""
    return (f"http://{host.lower()}", f"https://{host.lower()}") if host else ()


def _host_name(host: str) -> str:
    """Host header -> the name without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    """The error as a response, or a WebSocket that is not opened."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": POLICY_CLOSED, "reason": error.message[:120]})
        return
    await answer(error)(scope, receive, send)


async def _preflight(headers: Headers, send: Send) -> None:
    """What a browser asks before it sends an allowed page's request. OpenAI's client adds headers of its own."""
    allowed = {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": headers.get("access-control-request-headers", "Authorization, Content-Type"),
        "Access-Control-Max-Age": "600",
    }
    raw = [(name.lower().encode(), value.encode()) for name, value in allowed.items()]
    await send({"type": "http.response.start", "status": 204, "headers": raw})
    await send({"type": "http.response.body", "body": b""})


def _with_headers(send: Send, extra: dict[str, str]) -> Callable[[Message], Awaitable[None]]:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in (HEADERS | extra).items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending
