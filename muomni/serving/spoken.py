"""The Talker's speech for the client: chunks of samples -> bytes of a format."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from torch import Tensor

from muomni.inference.answer import Answer, Piece
from muomni.inference.errors import InvalidOption
from muomni.inference.scheduling.speech_request import SpeechDone, SpeechTicket
from muomni.serving.answers import Generation
from muomni.serving.audio_format import make_encoder
from muomni.serving.events import Events, merged
from muomni.serving.state import ServerState
from muomni.serving.voices import voice_number

RATE = 24_000  # Hz, of all OpenAI clients


def begin(
    state: ServerState, text: str, *, voice: str, param: str, client: str, more: bool = False
) -> tuple[Events, SpeechTicket]:
    """Submit a text to the Talker. more: the rest is fed later, piece by piece."""
    speech = state.require_speech()
    number = voice_number(voice, state.engine, param=param)
    events = Events(final=SpeechDone)
    events.ticket = ticket = speech.submit(text, voice=number, emit=events.emit, client=client, more=more)
    return events, ticket


async def sound(state: ServerState, events: Events, encoder: Any) -> AsyncIterator[bytes]:
    """Bytes of the format as the Talker speaks. The encoder's work is small: it runs in a thread only for compressed forms."""
    begun = time.monotonic()
    async with asyncio.timeout(state.settings.request_seconds):
        async for event in events:
            if isinstance(event, Tensor):
                if begun:
                    state.metrics.first_audio.observe(time.monotonic() - begun)
                    begun = 0.0
                state.metrics.spoken.inc(len(event) / state.engine.speech_rate)
                data = encoder.push(event)
            else:
                data = encoder.close()
            if data:
                yield data


async def speak_whole(state: ServerState, text: str, *, voice: str, form: str, client: str) -> tuple[bytes, int]:
    """A text as a file in a format of `make_encoder`, and the Talker's frames."""
    events, _ = begin(state, text, voice=voice, param="audio.voice", client=client)
    encoder = make_encoder(form, state.engine.speech_rate, RATE)
    data = [block async for block in sound(state, events, encoder)]
    return b"".join(data), len(events.last.codes)


class SpokenAnswer:
    """An answer that is spoken while it is written: async iterator over PCM16 of `RATE` Hz."""

    def __init__(self, state: ServerState, *, voice: str, client: str) -> None:
        self.id = f"audio_{uuid.uuid4().hex}"
        self.state = state
        self.events, self.ticket = begin(state, "", voice=voice, param="audio.voice", client=client, more=True)
        self.encoder = make_encoder("pcm", state.engine.speech_rate, RATE)

    @property
    def frames(self) -> int:
        """Frames of codes; 0 before the end."""
        return 0 if self.events.last is None else len(self.events.last.codes)

    def feed(self, text: str) -> None:
        """More of the answer."""
        self.state.require_speech().feed(self.ticket, text)

    def finish(self) -> None:
        """The answer is complete."""
        self.state.require_speech().finish(self.ticket)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for data in sound(self.state, self.events, self.encoder):
                yield data
        except InvalidOption as error:  # an answer of signs that have no sound: its text stands alone
            if error.param != "text":
                raise

    def cancel(self) -> None:
        """The client needs no more of it."""
        self.events.cancel()


async def with_speech(
    generation: Generation, voices: Sequence[SpokenAnswer]
) -> AsyncIterator[tuple[int, Piece | Answer | bytes]]:
    """(choice, piece of its text, its answer, or PCM16 of its voice) as they come; without voices the texts alone."""

    async def fed() -> AsyncIterator[tuple[int, Piece | Answer]]:
        async for index, event in generation.pieces():
            if voices and isinstance(event, Answer):
                voices[index].finish()
            elif voices and isinstance(event, Piece):
                voices[index].feed(event.text)
            yield index, event

    try:
        async for source, item in merged([fed(), *voices]):
            yield item if source == 0 else (source - 1, item)
    finally:
        for voice in voices:
            voice.cancel()
