"""Answers that are sent while they are made; server-sent events: a line `data: ...` for each piece, `data: [DONE]` at the end."""

import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import anyio
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from muomni.inference.errors import MuomniError
from muomni.serving.errors import api_error

log = logging.getLogger(__name__)

DONE = "data: [DONE]\n\n"


class Streamed(StreamingResponse):
    """Sends what a generator yields. However it ends, the generator is closed and `cancel` called, also if the client has gone
    before the first piece was wanted: a generator that was never begun would not run its own `finally`."""

    def __init__(
        self,
        content: AsyncGenerator[str] | AsyncGenerator[bytes],
        *,
        cancel: Callable[[], None],
        media_type: str,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(content, media_type=media_type, headers=headers)
        self.content, self.cancel = content, cancel

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Of ASGI."""
        try:
            await super().__call__(scope, receive, send)
        except (
            MuomniError,
            TimeoutError,
        ) as error:  # the head has been sent: the client reads the end of the connection
            log.warning("an answer broke off: %s", type(error).__name__)
        finally:
            self.cancel()
            with anyio.CancelScope(shield=True):
                await self.content.aclose()


def line(event: BaseModel) -> str:
    """An event as its line; fields that were not set are left out."""
    return f"data: {event.model_dump_json(exclude_unset=True)}\n\n"


def stream(events: AsyncGenerator[str], *, cancel: Callable[[], None], done: bool = True) -> Streamed:
    """The response. An error in the middle of an answer is an event of its own, as OpenAI's clients expect it."""

    async def lines() -> AsyncGenerator[str]:
        async with aclosing(events):
            try:
                async for each in events:
                    yield each
            except Exception as error:
                yield f"data: {json.dumps(api_error(error).body)}\n\n"
            if done:
                yield DONE

    return Streamed(lines(), cancel=cancel, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
