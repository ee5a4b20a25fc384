"""The Talker's speech for the client: chunks of samples -> bytes of a format."""

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from torch import Tensor

from muomni.inference.answer import Answer, Piece
from muomni.inference.errors import InvalidOption
from muomni.inference.scheduling.speech_request import SpeechDone
from muomni.serving.answers import Generation
from muomni.serving.audio_format import AudioEncoder, make_encoder
from muomni.serving.events import Events, merged
from muomni.serving.jobs import in_thread
from muomni.serving.state import ServerState
from muomni.serving.voices import voice_named

RATE = 24_000  # Hz, of all OpenAI clients
LONG_TEXT = 1000  # characters: beyond, a text waits for a turn among the blocking jobs


async def begin(state: ServerState, text: str, *, voice: str, param: str, client: str, deadline: float) -> Events:
    """Submit a text to the Talker. In a thread: to find what can be spoken of a long text takes seconds."""
    # The routes ask `require_speech`; an answer that has begun may be spoken while the server stops.
    assert state.speech is not None
    speech, speaker = state.speech, voice_named(voice, state.engine, param=param)
    events = Events(final=SpeechDone, deadline=deadline)

    def submit() -> None:
        events.attach(speech.submit(text, voice=speaker, emit=events.emit, client=client))

    try:
        if len(text) > LONG_TEXT:
            await state.jobs.run(submit, client=client)
        else:
            await in_thread(submit)
    except BaseException:
        events.cancel()
        raise
    return events


async def sound(state: ServerState, events: Events, encoder: AudioEncoder) -> AsyncGenerator[bytes]:
    """Bytes of the format as the Talker speaks. Encoding a block takes about a millisecond: no thread is worth it."""
    begun = time.monotonic()
    async with aclosing(aiter(events)) as emitted:
        async for event in emitted:
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


async def speak_whole(
    state: ServerState, text: str, *, voice: str, form: str, client: str, deadline: float
) -> tuple[bytes, int]:
    """A text as a file in a format of `make_encoder`, and the Talker's frames."""
    events = await begin(state, text, voice=voice, param="audio.voice", client=client, deadline=deadline)
    encoder = make_encoder(form, state.engine.speech_rate, RATE)
    data = [block async for block in sound(state, events, encoder)]
    return b"".join(data), len(events.last.codes)


class SpokenAnswer:
    """An answer that is spoken while it is written: async iterator over PCM16 of `RATE` Hz."""

    def __init__(self, state: ServerState, *, voice: str, client: str, deadline: float) -> None:
        assert state.speech is not None
        self.id = f"audio_{uuid.uuid4().hex}"
        self.state, self.speech = state, state.speech
        self.events = Events(final=SpeechDone, deadline=deadline)
        speaker = voice_named(voice, state.engine, param="audio.voice")
        self.ticket = self.speech.submit(
            "",
            voice=speaker,
            look_ahead=state.settings.look_ahead,
            emit=self.events.emit,
            client=client,
            more=True,
        )
        self.events.attach(self.ticket)
        self.encoder = make_encoder("pcm", state.engine.speech_rate, RATE)

    @property
    def frames(self) -> int:
        """Frames of codes; 0 before the end."""
        return 0 if self.events.last is None else len(self.events.last.codes)

    def feed(self, text: str) -> None:
        """More of the answer."""
        self.speech.feed(self.ticket, text)

    def finish(self) -> None:
        """The answer is complete."""
        self.speech.finish(self.ticket)

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(sound(self.state, self.events, self.encoder)) as blocks:
                async for data in blocks:
                    yield data
        except InvalidOption as error:  # an answer of signs that have no sound: its text stands alone
            if error.param != "text":
                raise

    def cancel(self) -> None:
        """The client needs no more of it."""
        self.events.cancel()


class Speaking:
    """Answers and their voices, none for answers that are text alone. Whoever makes one calls `cancel` in the end, whatever
    happens: a voice that waits for its text has a slot of the Talker."""

    def __init__(self, state: ServerState, generation: Generation, *, voice: str | None, client: str) -> None:
        """voice: None for text. Raises what the Talker refuses at once; then no answer continues."""
        self.generation, self.voices = generation, list[SpokenAnswer]()
        try:
            for _ in generation.events if voice is not None else ():
                assert voice is not None
                self.voices.append(SpokenAnswer(state, voice=voice, client=client, deadline=generation.deadline))
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """End all of it; a no-op for what has ended."""
        self.generation.cancel()
        for voice in self.voices:
            voice.cancel()

    async def events(self) -> AsyncGenerator[tuple[int, Piece | Answer | bytes]]:
        """(choice, piece of its text, its answer, or PCM16 of its voice) as they come."""
        try:
            async with aclosing(merged([self._fed(), *self.voices])) as items:
                async for source, item in items:
                    yield item if source == 0 else (source - 1, item)
        finally:
            self.cancel()

    async def _fed(self) -> AsyncIterator[tuple[int, Piece | Answer]]:
        async with aclosing(self.generation.pieces()) as pieces:
            async for index, event in pieces:
                if self.voices and isinstance(event, Answer):
                    self.voices[index].finish()
                elif self.voices and isinstance(event, Piece):
                    self.voices[index].feed(event.text)
                yield index, event
