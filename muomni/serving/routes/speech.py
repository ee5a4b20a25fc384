"""`/v1/audio/speech`: text -> sound, sent while the Talker speaks; `/v1/audio/voices`: whose."""

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from muomni.serving import sse
from muomni.serving.audio_format import make_encoder
from muomni.serving.errors import field_names, refused
from muomni.serving.events import Events
from muomni.serving.schemas.audio import SpeechDelta, SpeechEnd, SpeechRequest, SpeechUsage, Voice, VoiceList
from muomni.serving.schemas.shared import EVENT_STREAM, errors
from muomni.serving.spoken import RATE, begin, sound
from muomni.serving.state import ServerState, client_of, state_of
from muomni.serving.strict_route import StrictRoute, while_connected
from muomni.serving.voices import voice_names

router = APIRouter(route_class=StrictRoute, tags=["audio"])
TYPES = {
    "wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac", "opus": "audio/ogg", "pcm": "audio/pcm",
}  # fmt: skip
BINARY = {"schema": {"type": "string", "format": "binary"}}


@router.post(
    "/v1/audio/speech",
    response_class=StreamingResponse,
    responses=errors(404, 429) | {200: {"content": dict.fromkeys(TYPES.values(), BINARY) | EVENT_STREAM}},
)
async def create_speech(body: SpeechRequest, request: Request, state: Annotated[ServerState, Depends(state_of)]) -> Any:
    """A text as sound."""
    state.check_model(body.model)
    state.require_speech()
    if len(body.input) > state.settings.max_characters:
        raise refused("input", f"{len(body.input)} characters; at most {state.settings.max_characters} are taken")
    voice = body.voice if isinstance(body.voice, str) else body.voice.id
    encoder = make_encoder(body.response_format, state.engine.speech_rate, RATE, speed=body.speed)
    with field_names(text="input"):
        events = await begin(
            state, body.input, voice=voice, param="voice", client=client_of(request), deadline=state.deadline()
        )
    data = sound(state, events, encoder)
    if body.stream_format == "sse":
        return sse.stream(_lines(data, events, len(body.input)), cancel=events.cancel, done=False)
    first = await while_connected(request, _first(data))  # so that an error is an answer of its own
    return sse.Streamed(_after(first, data), cancel=events.cancel, media_type=TYPES[body.response_format])


@router.get("/v1/audio/voices", response_model=VoiceList, responses=errors())
async def list_voices(state: Annotated[ServerState, Depends(state_of)]) -> VoiceList:
    """The Talker's voices; none for a model that does not speak."""
    names = voice_names(state.engine) if state.speech is not None else []
    return VoiceList(data=[Voice(id=name) for name in names])


async def _first(data: AsyncGenerator[bytes]) -> bytes:
    return await anext(data, b"")


async def _after(first: bytes, data: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(data):
        yield first
        async for block in data:
            yield block


async def _lines(data: AsyncGenerator[bytes], events: Events, characters: int) -> AsyncGenerator[str]:
    async with aclosing(data):
        async for block in data:
            yield sse.line(SpeechDelta(type="speech.audio.delta", audio=base64.b64encode(block).decode()))
    frames = len(events.last.codes)
    usage = SpeechUsage(input_tokens=characters, output_tokens=frames, total_tokens=characters + frames)
    yield sse.line(SpeechEnd(type="speech.audio.done", usage=usage))
