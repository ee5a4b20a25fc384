"""`/v1/chat/completions`: text, images and recordings in; text and speech out."""

import base64
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from muomni.inference.answer import Answer
from muomni.inference.errors import InvalidOption
from muomni.inference.prompt import Request as ModelRequest
from muomni.serving import sse
from muomni.serving.answers import Generation, submit, usage_of
from muomni.serving.errors import field_names, refused
from muomni.serving.messages import KEPT_SECONDS, has_media, read_messages
from muomni.serving.sampling import chat_logprobs, read_fields
from muomni.serving.schemas.chat import (
    AnswerAudio,
    AnswerMessage,
    AudioDelta,
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    Choice,
    ChunkChoice,
    Delta,
    SchemaFormat,
    TextFormat,
)
from muomni.serving.schemas.shared import EVENT_STREAM, errors
from muomni.serving.spoken import Speaking, speak_whole
from muomni.serving.state import ServerState, client_of, state_of
from muomni.serving.strict_route import StrictRoute, while_connected
from muomni.serving.voices import voice_named

router = APIRouter(route_class=StrictRoute, tags=["chat"])
ANY_OBJECT = {"type": "object"}


@router.post(
    "/v1/chat/completions",
    response_model=ChatCompletion,
    response_model_exclude_unset=True,
    responses=errors(404, 429) | {200: {"content": EVENT_STREAM}},
)
async def create_chat_completion(
    body: ChatRequest, request: Request, state: Annotated[ServerState, Depends(state_of)]
) -> Any:
    """Answers to a conversation, whole or streamed."""
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    wanted = read_fields(body, state, max_new_tokens=_limit(body), logprobs=logprobs)
    spoken = _check_modalities(body, state)
    client, media = client_of(request), has_media(body.messages)
    arguments = (body.messages, state.engine, state.settings, state.answers)
    messages = await state.job(read_messages, *arguments, client=client) if media else read_messages(*arguments)
    with field_names(text="messages", image="messages", audio="messages"):
        generation = await submit(
            state, client, [ModelRequest(messages=messages)], wanted.options,
            number=wanted.number, schema=_schema(body), media=media, whole=not body.stream,
        )  # fmt: skip
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": wanted.model}
    if body.stream:
        speaking = Speaking(state, generation, voice=_voice(body) if spoken else None, client=client)
        return sse.stream(_chunks(state, speaking, head, body), cancel=speaking.cancel)
    return await while_connected(request, _whole(state, generation, head, body, spoken=spoken, client=client))


def _limit(body: ChatRequest) -> int | None:
    return body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens


def _check_modalities(body: ChatRequest, state: ServerState) -> bool:
    """Whether the answer is spoken. Raises ApiError for fields that contradict each other."""
    if body.top_logprobs is not None and not body.logprobs:
        raise refused("top_logprobs", "needs logprobs: true")
    spoken = "audio" in (body.modalities or [])
    if not spoken:
        if body.audio is not None:
            raise refused("audio", 'needs modalities: ["text", "audio"]')
        return False
    if body.audio is None:
        raise refused("audio", "voice and format of the spoken answer are required")
    if body.stream and body.audio.format != "pcm16":
        raise refused("audio.format", "a streamed answer is spoken in pcm16")
    state.require_speech()
    voice_named(_voice(body), state.engine, param="audio.voice")
    return True


def _schema(body: ChatRequest) -> dict[str, Any] | None:
    """The JSON schema that the answer follows."""
    wanted = body.response_format
    if wanted is None or isinstance(wanted, TextFormat):
        return None
    if isinstance(wanted, SchemaFormat):
        if wanted.json_schema.schema_ is None:
            raise refused("response_format.json_schema.schema", "this field is required")
        return wanted.json_schema.schema_
    return ANY_OBJECT


async def _whole(
    state: ServerState, generation: Generation, head: dict[str, Any], body: ChatRequest, *, spoken: bool, client: str
) -> ChatCompletion:
    answers = await generation.whole()
    made, frames = [], 0
    for index, answer in enumerate(answers):
        message = AnswerMessage(role="assistant", content=answer.text, refusal=None)
        if spoken and (made_sound := await _spoken(state, generation, answer.text, body, client=client)):
            audio, count = made_sound
            message = AnswerMessage(role="assistant", content=None, refusal=None, audio=audio)
            frames += count
        made.append(
            Choice(
                index=index,
                message=message,
                logprobs=chat_logprobs(answer.logprobs),
                finish_reason=answer.finish_reason,
            )
        )
    usage = usage_of(answers, audio_tokens=frames)
    return ChatCompletion(**head, object="chat.completion", choices=made, usage=usage)


async def _spoken(
    state: ServerState, generation: Generation, text: str, body: ChatRequest, *, client: str
) -> tuple[AnswerAudio, int] | None:
    """A whole answer as sound, and its frames; None for one that has no sound: its text stands alone."""
    assert body.audio is not None
    form = body.audio.format.removesuffix("16")
    try:
        data, frames = await speak_whole(
            state, text, voice=_voice(body), form=form, client=client, deadline=generation.deadline
        )
    except InvalidOption as error:
        if error.param != "text":
            raise
        return None
    name = f"audio_{uuid.uuid4().hex}"
    state.answers.keep(name, text)
    expires = int(time.time()) + KEPT_SECONDS
    return AnswerAudio(id=name, expires_at=expires, data=base64.b64encode(data).decode(), transcript=text), frames


def _voice(body: ChatRequest) -> str:
    assert body.audio is not None
    return body.audio.voice if isinstance(body.audio.voice, str) else body.audio.voice.id


async def _chunks(
    state: ServerState, speaking: Speaking, head: dict[str, Any], body: ChatRequest
) -> AsyncGenerator[str]:
    number, voices = len(speaking.generation.events), speaking.voices

    def chunk(index: int, delta: Delta, **more: Any) -> str:
        own = ChunkChoice(index=index, delta=delta, **({"finish_reason": None} | more))
        return sse.line(ChatChunk(**head, object="chat.completion.chunk", choices=[own]))

    for index in range(number):
        yield chunk(index, Delta(role="assistant", content=None if voices else ""))
    answers: dict[int, Answer] = {}
    async with aclosing(speaking.events()) as events:
        async for index, event in events:
            if isinstance(event, bytes):
                audio = AudioDelta(id=voices[index].id, data=base64.b64encode(event).decode())
                yield chunk(index, Delta(audio=audio))
            elif isinstance(event, Answer):
                answers[index] = event
                if not voices:
                    yield chunk(index, Delta(), finish_reason=event.finish_reason)
            elif voices:
                yield chunk(index, Delta(audio=AudioDelta(id=voices[index].id, transcript=event.text)))
            else:
                more = {"logprobs": chat_logprobs(event.tokens)} if body.logprobs else {}
                yield chunk(index, Delta(content=event.text), **more)
    for index, voice in enumerate(voices):
        state.answers.keep(voice.id, answers[index].text)
        ended = AudioDelta(id=voice.id, expires_at=int(time.time()) + KEPT_SECONDS)
        yield chunk(index, Delta(audio=ended), finish_reason=answers[index].finish_reason)
    if body.stream_options is not None and body.stream_options.include_usage:
        total = usage_of(
            [answers[index] for index in range(number)], audio_tokens=sum(voice.frames for voice in voices)
        )
        yield sse.line(ChatChunk(**head, object="chat.completion.chunk", choices=[], usage=total))
