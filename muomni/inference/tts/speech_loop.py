"""Speech of a text while it is being written, in one loop with whoever writes it: pieces of text in, blocks of sound out.

Legend: K codebooks, N samples.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from muomni.frontends.text_normalizer import NormalizedText
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.decoding.generate import decode
from muomni.inference.decoding.timings import Timings
from muomni.inference.patience import patient
from muomni.inference.tts.options import GREEDY, SpeechOptions
from muomni.inference.tts.speaker import Speaker
from muomni.inference.tts.speech_plan import SpeechPlan, Step
from muomni.inference.tts.speech_stream import TextSynthesizer
from muomni.inference.validation import require_str
from muomni.models.talker import Talker

log = logging.getLogger(__name__)


class SpeechLoop:
    """One text, spoken once. `feed` it pieces and `close` it; `blocks` computes what can be said by then.

    Args:
        voice: as of `Speaker.voice`. look_ahead: of `SpeechPlan`. timings: filled meanwhile. ended: called with them after the
            last block.
    """

    def __init__(
        self,
        speaker: Speaker,
        tokenizer: Tokenizer | None,
        *,
        voice: Any,
        look_ahead: int | None,
        timings: Timings,
        ended: Callable[[Timings], None],
        options: SpeechOptions = GREEDY,
    ) -> None:
        options.check(speaker.talker)
        self.options = options
        self.speaker, self.voice, self.timings, self.ended = speaker, speaker.voice(voice), timings, ended
        self.plan = SpeechPlan(speaker, tokenizer, look_ahead=look_ahead)
        self.synthesizer = TextSynthesizer(speaker.decoder)
        self.written = ""  # the beginning of the text, for messages
        self.codes: list[Tensor] = []  # K each, of the utterance
        self.talker: Talker | None = None  # by which it was begun
        timings.vocoder = speaker.decoder.name

    @property
    def silent(self) -> bool:
        """True if a text that is complete has nothing to speak; the next words of one that has are then ready."""
        while not (self.synthesizer.begun or self.plan.look()):
            if not self.plan.has_text:
                return self.plan.closed
        return False

    def stream(self, text: str | Iterable[str], *, patience: float | None) -> Iterator[Tensor]:
        """All blocks (N) of a text, or of its pieces as they come. patience: of `patient`."""
        if not isinstance(text, str):
            if not isinstance(text, Iterable) or isinstance(text, bytes | bytearray):
                require_str("text", text)
            return self._of_pieces(patient(text, patience))
        self.feed(text)
        self.close()
        if self.silent:
            raise self.speaker.unspeakable(self.written)
        return self.blocks()

    def _of_pieces(self, pieces: Iterator[str]) -> Iterator[Tensor]:
        for piece in pieces:
            self.feed(piece)
            yield from self.blocks()
        self.close()
        yield from self.blocks()

    def feed(self, piece: str) -> None:
        """Append to the text."""
        require_str("text", piece)
        self.written += piece[: max(0, 41 - len(self.written))]
        self.plan.feed(piece)

    def close(self) -> None:
        """The text is complete."""
        self.plan.close()

    def blocks(self) -> Iterator[Tensor]:
        """Blocks (N) of all that can be spoken of the text so far. Of a complete text the last ones; raises InvalidOption if it
        held nothing to speak."""
        computed = self._computed()
        while True:
            with self.timings.span("speech"):  # excludes the time that the consumer takes between blocks
                block = next(computed, None)
            if block is None:
                break
            self.timings.first_audio = self.timings.first_audio or self.timings.speech
            self.timings.audio_seconds += len(block) / self.speaker.decoder.sample_rate
            yield block
        if self.plan.closed:
            self._finish()

    def _finish(self) -> None:
        if not self.synthesizer.begun:
            raise self.speaker.unspeakable(self.written)
        if self.plan.left_out:
            log.warning("%r: %s", self.written[:40], NormalizedText("", "".join(self.plan.left_out)).notice())
        self.ended(self.timings)

    def _computed(self) -> Iterator[Tensor]:
        while self.plan.has_text:
            if self.plan.look():
                yield from self._run(self.plan.take())

    def _run(self, step: Step) -> Iterator[Tensor]:
        """Speak as far as a step reaches."""
        if step.begins:
            self.codes, self.talker = [], None
            self.synthesizer.begin()
        look_ahead = self.plan.look_ahead or 0
        limit = step.limit or self.speaker.frames_before(step.text, voice=self.voice, look_ahead=look_ahead)
        if limit > len(self.codes):
            for frame in self.frames(step, limit):
                self.synthesizer.add(frame)
                while self.synthesizer.ready:
                    yield self.synthesizer.render()
        elif step.limit is not None:
            self.timings.speech_cut = True
        if step.limit is not None:
            self.synthesizer.end()
            while self.synthesizer.ready:
                yield self.synthesizer.render()

    def frames(self, step: Step, limit: int) -> Iterator[Tensor]:
        """Frames (1, K) after those of the utterance so far, up to a limit, or to the Talker's stop once all of the utterance's
        text is there. On a GPU each syncs: it is rendered as it comes."""
        so_far = torch.stack(self.codes)[None] if self.codes else None
        with torch.inference_mode():
            decoder, first, (limit,) = self.speaker.begin(
                [step.text], [limit], [self.voice], so_far, self.options, self.talker
            )
            self.talker = decoder.talker
        for frame in decode(decoder, first, max_tokens=limit - len(self.codes)):
            self.timings.frames += 1
            self.codes.append(frame[0, :-1])
            yield frame[:, :-1]
            if step.limit is not None and bool(decoder.ended(frame)):
                return
        self.timings.speech_cut |= step.limit is not None
