"""A hostile request: bytes to be sent, and what may come back."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

JSON_TYPE = {"Content-Type": "application/json"}


@dataclass(frozen=True, kw_only=True)
class Shot:
    """sends: bytes, and numbers of seconds to wait between them. field: regular expression of `param` in the answer's error.
    passes: the request may also be answered by 2xx. half_close: the client says that it sends no more. handshake: opens a
    WebSocket; `sends` are frames then. plain: the error may be the protocol's, a line of text. seconds: within which it must be
    answered or closed."""

    sends: Sequence[bytes | float]
    field: str | None = None
    passes: bool = False
    half_close: bool = False
    handshake: bytes = b""
    plain: bool = False
    seconds: float = 15.0

    @property
    def websocket(self) -> bool:
        """Whether frames are sent."""
        return bool(self.handshake)


Maker = Callable[[random.Random], Shot]


def request(
    path: str | bytes, body: bytes = b"", *, method: str = "POST", headers: Mapping[str, str] | None = None
) -> bytes:
    """An HTTP request. Its connection ends with the answer."""
    target = path.encode("latin-1") if isinstance(path, str) else path
    lines = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body))} | dict(headers or {})
    head = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in lines.items())
    return method.encode() + b" " + target + b" HTTP/1.1\r\n" + head + b"\r\n" + body


def post(path: str, body: Any, **how: Any) -> Shot:
    """JSON, or bytes as they are."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Shot(sends=[request(path, raw, headers=JSON_TYPE)], **how)


CHAT, COMPLETIONS, SPEECH, EMBEDDINGS, TRANSCRIPTIONS = (
    f"/v1/{name}" for name in ("chat/completions", "completions", "audio/speech", "embeddings", "audio/transcriptions")
)


def valid(path: str) -> dict[str, Any]:
    """The body of a request that is answered."""
    own: dict[str, dict[str, Any]] = {
        CHAT: {"messages": [{"role": "user", "content": "what colour is it"}], "max_tokens": 4},
        COMPLETIONS: {"prompt": "the red", "max_tokens": 4},
        SPEECH: {"input": "one", "voice": "0", "response_format": "pcm"},
        EMBEDDINGS: {"input": "the red circle"},
    }
    return {"model": "m"} | own[path]


def user(content: Any, **more: Any) -> dict[str, Any]:
    """The body of a chat with one turn."""
    return valid(CHAT) | {"messages": [{"role": "user", "content": content}]} | more
