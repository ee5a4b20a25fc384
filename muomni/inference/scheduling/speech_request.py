"""One request of the speech scheduler, from its text to its last chunk.

Shapes: T frames, K codebooks, N samples.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.decoding.timings import Timings
from muomni.inference.scheduling.running import Ticket
from muomni.inference.tts.sentences import SentenceSplitter
from muomni.inference.tts.speaker import Sentence, Speaker
from muomni.inference.tts.speech_stream import TextSynthesizer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SpeechDone:
    """The end of a speech. codes: (T, K) of all sentences. truncated: a sentence ended at its frame limit. timings:
    `first_audio` is counted from the submission."""

    codes: Tensor
    sentences: int
    truncated: bool
    timings: Timings


@dataclass(frozen=True, slots=True)
class SpeechStats:
    """Requests now, and counts since the start. mean_batch: utterances per frame. late: chunks that came after a listener who
    began with the first one had heard all before."""

    active: int
    queued: int
    slots: int
    finished: int
    cancelled: int
    failed: int
    frames: int
    steps: int
    chunks: int
    late: int
    mean_batch: float
    audio_seconds: float


Emit = Callable[[Tensor | SpeechDone | Exception], None]


class Speech:
    """A request. `written` and `complete` are guarded by the scheduler's lock, the rest belongs to its thread.

    A sentence is put into words when its turn comes (`look`): for a long text that would take seconds, and it could be cancelled.
    """

    def __init__(
        self, speaker: Speaker, tokenizer: Tokenizer | None, *, voice: int, ticket: "SpeechTicket", emit: Emit
    ) -> None:
        self.voice, self.ticket, self._emit = voice, ticket, emit
        self.speaker, self.tokenizer = speaker, tokenizer
        self.splitter = SentenceSplitter()
        self.written: deque[str] = deque()  # sentences to be spoken
        self._spoken: Iterator[tuple[Sentence | None, str]] | None = None  # what is spoken of the one before them
        self._next: Sentence | None = None  # of these
        self.complete = False  # no more text will come
        self.synthesizer = TextSynthesizer(speaker.decoder)
        self.rate = speaker.decoder.sample_rate
        self.row = -1  # of the slots, while a sentence is spoken
        self.limit = 0  # frames of that sentence
        self.codes: list[Tensor] = []  # K each, of all sentences
        self.sentences = 0
        self.timings = Timings(vocoder=speaker.decoder.name)
        self.submitted = time.perf_counter()
        self.started = 0.0  # when the first chunk was emitted

    @property
    def deadline(self) -> float:
        """When a listener who began with the first chunk has heard all chunks so far; before the first one: in the past."""
        return self.started + self.timings.audio_seconds if self.started else self.submitted - 1e9

    @property
    def finished(self) -> bool:
        """True if all of the text has been spoken and emitted."""
        return self.complete and not self.has_text and self.row < 0 and not self.synthesizer.sentences

    @property
    def has_text(self) -> bool:
        """True if there may be a sentence to speak."""
        return self._next is not None or self._spoken is not None or bool(self.written)

    def look(self) -> bool:
        """Put more of the text into words, a little at a time; True if there is a sentence to speak."""
        if self._next is None and self.has_text:
            if self._spoken is None:
                self._spoken = self.speaker.sentences(self.written.popleft(), self.tokenizer)
            self._next, left_out = next(self._spoken, (None, None))
            if left_out is None:
                self._spoken = None
            elif left_out:
                log.warning("characters without a spoken form are left out: %r", left_out)
        return self._next is not None

    def take(self) -> Sentence:
        """The sentence that `look` found."""
        sentence, self._next = self._next, None
        assert sentence is not None
        return sentence

    def begin(self, limit: int) -> None:
        """A sentence of at most so many frames follows."""
        self.limit, self.frames = limit, 0
        self.sentences += 1
        self.synthesizer.begin()

    def push(self, frame: Tensor, *, ended: bool) -> bool:
        """Append a frame (K); True if the sentence ends with it."""
        self.codes.append(frame)
        self.synthesizer.add(frame[None])
        self.frames += 1
        self.timings.frames += 1
        last = ended or self.frames == self.limit
        if last:
            self.timings.speech_cut |= not ended
            self.synthesizer.end()
        return last

    def render(self) -> bool:
        """Emit the next block; True if it came in time."""
        start = time.perf_counter()
        block = self.synthesizer.render()
        now = time.perf_counter()
        in_time = not self.started or now <= self.deadline
        self.timings.speech += now - start
        if not self.started:
            self.started, self.timings.first_audio = now, now - self.submitted
        self.timings.audio_seconds += len(block) / self.rate
        if not self.ticket.cancelled:
            self._send(block)
        return in_time

    def done(self) -> SpeechDone:
        """What is emitted last."""
        return SpeechDone(
            codes=torch.stack(self.codes),
            sentences=self.sentences,
            truncated=self.timings.speech_cut,
            timings=self.timings,
        )

    def end(self, result: SpeechDone | Exception) -> None:
        """Emit the last thing of this request."""
        self.ticket.done = True
        self._send(result)

    def _send(self, item: Tensor | SpeechDone | Exception) -> None:
        try:
            self._emit(item)
        except Exception:
            log.exception("a receiver of speech failed: its request is cancelled")
            self.ticket.cancel()


class SpeechTicket(Ticket):
    """A submitted speech, to `feed`, `finish` or `cancel`."""

    speech: Speech
