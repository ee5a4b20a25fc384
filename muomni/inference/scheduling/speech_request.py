"""One request of the speech scheduler, from its text to its last chunk.

Shapes: T frames, K codebooks, N samples.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.decoding.timings import Timings
from muomni.inference.scheduling.running import Ticket
from muomni.inference.tts.reference import Voice
from muomni.inference.tts.speaker import Speaker
from muomni.inference.tts.speech_plan import SpeechPlan, Step
from muomni.inference.tts.speech_stream import TextSynthesizer
from muomni.models.talker import Talker

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
    """A request. `plan.feed` and `plan.close` are guarded by the scheduler's lock, the rest belongs to its thread.

    A sentence, or phrase of one, is put into words when its turn comes (`look`): for a long text that would take seconds, and it
    could be cancelled.
    """

    def __init__(
        self,
        speaker: Speaker,
        tokenizer: Tokenizer | None,
        *,
        voice: Voice,
        look_ahead: int | None,
        ticket: "SpeechTicket",
        emit: Emit,
    ) -> None:
        self.voice, self.ticket, self._emit = voice, ticket, emit
        self.plan = SpeechPlan(speaker, tokenizer, look_ahead=look_ahead)
        self.whole = True  # the text of the utterance that is spoken
        self.synthesizer = TextSynthesizer(speaker.decoder)
        self.rate = speaker.decoder.sample_rate
        self.row = -1  # of the slots, while a sentence is spoken
        self.limit = 0  # frames of that sentence, or up to which its text is known
        self.frames = 0  # of that sentence so far
        self.codes: list[Tensor] = []  # K each, of all sentences
        self.sentences = 0
        self.talker: Talker | None = None  # by which the sentence was begun
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
        return self.plan.closed and not self.plan.has_text and self.row < 0 and not self.synthesizer.sentences

    def begin(self, step: Step) -> None:
        """What the step adds to the text follows."""
        self.whole = step.limit is not None
        if step.begins:
            self.frames, self.talker = 0, None
            self.sentences += 1
            self.synthesizer.begin()

    def so_far(self) -> Tensor | None:
        """The codes (1, T, K) of the sentence that is spoken; None before the first."""
        return torch.stack(self.codes[-self.frames :])[None] if self.frames else None

    def end_sentence(self, *, cut: bool) -> None:
        """No frame will follow in this sentence. cut: the limit on frames ended it."""
        self.timings.speech_cut |= cut
        self.synthesizer.end()

    def push(self, frame: Tensor, *, ended: bool) -> bool:
        """Append a frame (K); True if it is the last one, of the sentence or of what is known of its text."""
        self.codes.append(frame)
        self.synthesizer.add(frame[None])
        self.frames += 1
        self.timings.frames += 1
        ended = ended and self.whole
        last = ended or self.frames == self.limit
        if last and self.whole:
            self.end_sentence(cut=not ended)
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
        if self.plan.left_out:
            log.warning("characters without a spoken form are left out: %r", "".join(self.plan.left_out))
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
