"""The transcript of a turn while it is spoken, where the audio encoder reads in chunks (audio_encoder=streaming).

The session appends sound as it comes, and a thread reads what has gathered since. What is settled is sent as a delta and never
taken back; all of them joined are the transcript. A turn passes the encoder once, as for a transcript at its end.

Shapes: N samples.
"""

import asyncio
from collections.abc import Awaitable, Callable

import torch
from torch import Tensor

from muomni.inference.asr.alignment import Word
from muomni.inference.asr.live import LiveOptions, LiveTranscriber, PartialTranscript
from muomni.inference.asr.live_reader import reads_in_chunks
from muomni.inference.asr.transcript import Transcript
from muomni.inference.engine import Engine
from muomni.serving.state import ServerState

READ_SECONDS = 0.1  # that gather before a thread reads them: a chunk is longer
TRANSCRIPTION = "conversation.item.input_audio_transcription"

Send = Callable[..., Awaitable[None]]


def transcribes_live(engine: Engine) -> bool:
    """Whether the model writes down what is said while it is said."""
    encoder = engine.modules.get("audio")
    return encoder is not None and reads_in_chunks(encoder) and bool(encoder.num_symbols)  # type: ignore[arg-type]


class LiveTranscript:
    """Of one turn. begin: its first sample, counted from the session's start. rate: of its samples in Hz.

    `result` awaits the end; a fault of the recognizer or of a full queue is raised there.
    """

    def __init__(self, state: ServerState, *, item: str, begin: int, rate: int, send: Send, client: str) -> None:
        engine = state.engine
        self.transcriber = LiveTranscriber(
            engine.require("audio"), engine.media.require_hearing(),  # type: ignore[arg-type]
            LiveOptions(vad=None, rate=rate, words=True),
        )  # fmt: skip
        self.state, self.item, self.begin, self.rate, self.client = state, item, begin, rate, client
        self.end = begin  # the sample after the last that was appended
        self.text = ""
        self.words: list[Word] = []
        self._before = ""  # the text of the parts before this one: a long turn is read in several
        self._send, self._pieces, self._ended = send, [torch.zeros(0)], False
        self._ready = asyncio.Event()
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())  # raised by `result`, if at all

    def append(self, samples: Tensor) -> None:
        """samples (N) that follow the last ones."""
        self.end += len(samples)
        self._pieces.append(samples)
        if sum(map(len, self._pieces)) >= READ_SECONDS * self.rate:
            self._ready.set()

    async def result(self, samples: Tensor) -> Transcript:
        """The transcript of the turn, whose samples (N) are all there; its deltas have been sent."""
        self.append(samples[self.end - self.begin :])
        self._ended = True
        self._ready.set()
        await self._task
        return Transcript(self.text, self.words, duration=len(samples) / self.rate)

    def cancel(self) -> None:
        """The turn was taken back."""
        self._task.cancel()

    async def _run(self) -> None:
        done = False
        while not done:
            await self._ready.wait()
            self._ready.clear()
            pieces, self._pieces, done = torch.cat(self._pieces), [], self._ended
            before = len(self.text)
            for said in await self.state.job(self._read, pieces, done, client=self.client):
                self._take(said)
            if delta := self.text[before:]:
                await self._send(f"{TRANSCRIPTION}.delta", delta=delta, item_id=self.item, content_index=0)

    def _read(self, samples: Tensor, ended: bool) -> list[PartialTranscript]:
        said = list(self.transcriber.push(samples))
        return said + list(self.transcriber.close()) if ended else said

    def _take(self, said: PartialTranscript) -> None:
        self.text = f"{self._before} {said.text}".strip() if said.text else self._before
        if said.ended:
            self._before = self.text
            self.words += said.words
