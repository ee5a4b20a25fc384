"""One answer of a realtime conversation: its events while it is written and spoken."""

import asyncio
import base64
import uuid
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from muomni.inference.answer import Answer, Piece
from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.errors import ContextLength
from muomni.inference.prompt import Request
from muomni.serving.answers import Generation, submit, usage_of
from muomni.serving.errors import ApiError, api_error
from muomni.serving.realtime.conversation import Turn, Turns
from muomni.serving.realtime.schema import Session
from muomni.serving.spoken import RATE, Speaking
from muomni.serving.state import ServerState

Send = Callable[..., Awaitable[None]]


class Response:
    """Runs as a task; `asyncio.Task.cancel` ends it as `cancelled`."""

    def __init__(self, state: ServerState, session: Session, turns: Turns, *, send: Send, client: str) -> None:
        self.state, self.session, self.turns, self.client = state, session, turns, client
        self.id = f"resp_{uuid.uuid4().hex[:24]}"
        self.spoken = session.output_modalities == ["audio"] and state.speech is not None
        self.turn = Turn(role="assistant", content=[], status="in_progress", rate=RATE)
        self.where = {"response_id": self.id, "item_id": self.turn.id, "output_index": 0, "content_index": 0}
        self._send, self.text = send, ""
        self.reason = "turn_detected"  # of a cancellation
        self.before: str | None = None  # the item before the answer

    async def run(self) -> None:
        """Write, speak, and send all events."""
        status, usage = "completed", None
        details: dict[str, Any] | None = None
        try:
            await self._send("response.created", response=self._description("in_progress"))
            answer = await self._answer()
            if answer.finish_reason == "length":
                status, details = "incomplete", {"type": "incomplete", "reason": "max_output_tokens"}
            usage = usage_of([answer])
        except asyncio.CancelledError:
            status, details = "cancelled", {"type": "cancelled", "reason": self.reason}
        except Exception as error:
            body = api_error(error).body["error"]
            status, details = "failed", {"type": "failed", "error": {"type": body["type"], "code": body["code"]}}
            await self._send("error", error=body)
        self.turn.status = "completed" if status == "completed" else "incomplete"
        if self.turn.content:
            await self._end_item()
        counts: dict[str, Any] = {} if usage is None else {
            "usage": {
                "input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens, "total_tokens": usage.total_tokens,
                "input_token_details": {"cached_tokens": usage.prompt_tokens_details.cached_tokens},
            }
        }  # fmt: skip
        await self._send("response.done", response=self._description(status) | counts | {"status_details": details})

    async def _answer(self) -> Answer:
        generation = await self._submit()
        voice = self.session.audio.output.voice if self.spoken else None
        speaking = Speaking(self.state, generation, voice=voice, client=self.client)
        try:
            await self._begin_item()
            async with aclosing(speaking.events()) as events:
                return await self._report(events)
        finally:
            speaking.cancel()

    async def _report(self, events: AsyncIterable[tuple[int, Piece | Answer | bytes]]) -> Answer:
        answer: Answer | None = None
        async for _, event in events:
            if isinstance(event, bytes):
                self.turn.samples += len(event) // 2
                await self._send("response.output_audio.delta", delta=base64.b64encode(event).decode(), **self.where)
            elif isinstance(event, Answer):
                answer = event
            else:
                self.text += event.text
                self._keep_text()
                name = "response.output_audio_transcript.delta" if self.spoken else "response.output_text.delta"
                await self._send(name, delta=event.text, **self.where)
        assert answer is not None
        return answer

    async def _submit(self) -> Generation:
        """Ask for the answer; where the conversation is too long for the context, without its oldest turns."""
        options: GenerationOptions = self.state.options
        if self.session.max_output_tokens != "inf":
            most = min(self.session.max_output_tokens, self.state.settings.max_new_tokens)
            options = replace(options, max_new_tokens=most)
        if self.session.temperature is not None:
            options = replace(options, temperature=self.session.temperature)
        skip = 0
        while True:
            messages = self.turns.messages(self.session.instructions, skip=skip)
            media = any(not isinstance(each["content"], str) for each in messages)
            if not messages or messages[-1]["role"] != "user":
                raise ApiError(400, "there is no turn of the user to answer", code="nothing_to_answer")
            try:
                return await submit(
                    self.state, self.client, [Request(messages=messages)], options, number=1, media=media
                )
            except ContextLength:
                if skip >= len(self.turns.turns) - 1:
                    raise
                skip += 1

    async def _begin_item(self) -> None:
        kind: dict[str, Any] = (
            {"type": "output_audio", "transcript": ""} if self.spoken else {"type": "output_text", "text": ""}
        )
        self.before = self.turns.add(self.turn)
        await self._send("response.output_item.added", response_id=self.id, output_index=0, item=self.turn.as_item())
        await self._send("conversation.item.added", previous_item_id=self.before, item=self.turn.as_item())
        self.turn.content.append(kind)
        await self._send("response.content_part.added", part=_part(kind), **self.where)

    def _keep_text(self) -> None:
        self.turn.content[0]["transcript" if self.spoken else "text"] = self.text

    async def _end_item(self) -> None:
        if self.spoken:
            await self._send("response.output_audio.done", **self.where)
            await self._send("response.output_audio_transcript.done", transcript=self.text, **self.where)
        else:
            await self._send("response.output_text.done", text=self.text, **self.where)
        await self._send("response.content_part.done", part=_part(self.turn.content[0]), **self.where)
        item = self.turn.as_item()
        await self._send("response.output_item.done", response_id=self.id, output_index=0, item=item)
        await self._send("conversation.item.done", previous_item_id=self.before, item=item)

    def _description(self, status: str) -> dict[str, Any]:
        output = [self.turn.as_item()] if self.turn.content else []
        return {
            "id": self.id, "object": "realtime.response", "status": status, "output": output,
            "output_modalities": ["audio" if self.spoken else "text"], "status_details": None, "usage": None,
        }  # fmt: skip


def _part(content: dict[str, Any]) -> dict[str, Any]:
    """Content as a part of a response: audio or text."""
    return content | {"type": "audio" if content["type"] == "output_audio" else "text"}
