"""A client of OpenAI's API that notes when each piece of an answer came. Asynchronous, so that hundreds fit into one process."""

import asyncio
import base64
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

Value = str | bytes | list[list[float]]
SECONDS = 600.0  # for one answer
WAIT = 1.0  # seconds before the next attempt where the server names none


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """A request. kind: of its answer, a key of `READERS`. body: JSON, or the fields of a form with its `file`."""

    kind: str
    path: str
    body: dict[str, Any]
    file: bytes | None = None

    @property
    def streamed(self) -> bool:
        """Whether the answer comes in pieces."""
        return self.kind.endswith(" stream") or self.kind == "speech"


@dataclass(slots=True)
class Outcome:
    """What became of a call. Times in seconds after it was sent, of its last attempt; `pieces` those of all pieces.

    value: the answer; None: it failed, with `error`. refused: attempts that were answered by 429.
    """

    value: Value | None = None
    error: str = ""
    refused: int = 0
    seconds: float = 0.0
    tokens: int = 0
    pieces: list[float] = field(default_factory=list)

    @property
    def first(self) -> float:
        """Until the first piece."""
        return self.pieces[0] if self.pieces else self.seconds


@asynccontextmanager
async def session(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """Connections to a server, as many as there are calls."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=15.0)  # the server keeps them twice as long
    async with aiohttp.ClientSession(
        url, connector=connector, timeout=aiohttp.ClientTimeout(total=SECONDS), read_bufsize=2**20
    ) as client:
        yield client


async def call(client: aiohttp.ClientSession, request: Call, *, patience: random.Random | None = None) -> Outcome:
    """Send a request and read its answer. patience: wait as long as a 429 says, a little longer by chance, and try again; None:
    it is an error like any other."""
    outcome = Outcome()
    while True:
        begun = time.perf_counter()
        outcome.pieces.clear()
        try:
            async with client.post(request.path, **_body(request)) as answer:
                if answer.status == 429 and patience is not None:
                    await answer.read()
                    outcome.refused += 1
                    await asyncio.sleep(float(answer.headers.get("Retry-After", WAIT)) * patience.uniform(1.0, 1.5))
                    continue
                if answer.status == 200:
                    outcome.value = await READERS[request.kind](answer, outcome, begun)
                else:
                    outcome.error = f"{answer.status}: {(await answer.text())[:300]}"
        except (aiohttp.ClientError, TimeoutError, ServerSaidError) as error:
            outcome.error = f"{type(error).__name__}: {error}"
        outcome.seconds = time.perf_counter() - begun
        return outcome


def _body(request: Call) -> dict[str, Any]:
    if request.file is None:
        return {"json": request.body}
    form = aiohttp.FormData(request.body)
    form.add_field("file", request.file, filename="recording.wav")
    return {"data": form}


class ServerSaidError(Exception):
    """An error event in a stream."""


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The JSON of a stream's lines."""
    async for raw in answer.content:
        if raw.startswith(b"data: {"):
            event = json.loads(raw[6:])
            if "error" in event:
                raise ServerSaidError(event["error"]["message"])
            yield event


async def _chat(answer: aiohttp.ClientResponse, outcome: Outcome, begun: float) -> str:
    body = await answer.json()
    outcome.tokens = body["usage"]["completion_tokens"]
    return str(body["choices"][0]["message"]["content"])


async def _chat_stream(answer: aiohttp.ClientResponse, outcome: Outcome, begun: float) -> str:
    texts = []
    async for event in events(answer):
        if usage := event.get("usage"):
            outcome.tokens = usage["completion_tokens"]
        for choice in event["choices"]:
            if text := choice["delta"].get("content"):
                outcome.pieces.append(time.perf_counter() - begun)
                texts.append(text)
    return "".join(texts)


async def _spoken_stream(answer: aiohttp.ClientResponse, outcome: Outcome, begun: float) -> bytes:
    """A chat answer that is spoken: its text, a zero byte, its samples."""
    text, samples = "", b""
    async for event in events(answer):
        for choice in event["choices"]:
            audio = choice["delta"].get("audio") or {}
            text += audio.get("transcript") or ""
            if data := audio.get("data"):
                outcome.pieces.append(time.perf_counter() - begun)
                samples += base64.b64decode(data)
    return text.encode() + b"\0" + samples


async def _completion(answer: aiohttp.ClientResponse, outcome: Outcome, begun: float) -> str:
    body = await answer.json()
    outcome.tokens = body["usage"]["completion_tokens"]
    return str(body["choices"][0]["text"])


async def _completion_stream(answer: aiohttp.ClientResponse, outcome: Outcome, begun: float) -> str:
    texts = []
    async for event in events(answer):
        if usage := event.get("usage"):
            outcome.tokens = usage["completion_tokens"]
        for choice in event["choices"]:
            if choice["text"]:
                outcome.pieces.append(time.perf_counter() - begun)
                texts.append(choice["text"])
    return "".join(texts)


async def _speech(answer: aiohttp.ClientResponse, outcome: Outcome, begun: float) -> bytes:
    blocks = []
    async for block in answer.content.iter_any():
        outcome.pieces.append(time.perf_counter() - begun)
        blocks.append(block)
    return b"".join(blocks)


async def _transcription(answer: aiohttp.ClientResponse, outcome: Outcome, begun: float) -> str:
    return str((await answer.json())["text"])


async def _embedding(answer: aiohttp.ClientResponse, outcome: Outcome, begun: float) -> list[list[float]]:
    return [each["embedding"] for each in (await answer.json())["data"]]


Reader = Callable[[aiohttp.ClientResponse, Outcome, float], Awaitable[Value]]
READERS: dict[str, Reader] = {
    "chat": _chat,
    "chat stream": _chat_stream,
    "spoken stream": _spoken_stream,
    "completion": _completion,
    "completion stream": _completion_stream,
    "speech": _speech,
    "transcription": _transcription,
    "embedding": _embedding,
}
