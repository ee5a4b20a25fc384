"""Server-sent events: a line `data: ...` for each piece of an answer, `data: [DONE]` at its end."""

import json
from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from muomni.serving.errors import api_error

DONE = "data: [DONE]\n\n"


def line(event: BaseModel, *, named: bool = False) -> str:
    """An event as its line; fields that were not set are left out. named: with the line `event: TYPE` before it."""
    head = f"event: {event.type}\n" if named else ""  # type: ignore[attr-defined]
    return f"{head}data: {event.model_dump_json(exclude_unset=True)}\n\n"


def stream(events: AsyncIterator[str], *, done: bool = True) -> StreamingResponse:
    """The response. An error in the middle of an answer is an event of its own, as OpenAI's clients expect it."""

    async def lines() -> AsyncIterator[str]:
        try:
            async for each in events:
                yield each
        except Exception as error:
            yield f"data: {json.dumps(api_error(error).body)}\n\n"
        if done:
            yield DONE

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
