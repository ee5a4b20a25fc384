"""The speech methods of the engine: texts that are there, and a text that is still being written.

Legend: N samples.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.decoding.timings import Timings
from muomni.inference.errors import InvalidOption, MuomniError, raised_as
from muomni.inference.patience import PATIENCE
from muomni.inference.tts.options import NAMES, speech_options
from muomni.inference.tts.reference import Voice, VoiceSource
from muomni.inference.tts.speaker import Speaker, Utterance, warn_of_cut
from muomni.inference.tts.speech_loop import SpeechLoop
from muomni.inference.validation import require_sequence

log = logging.getLogger(__name__)


class Speaking(ABC):
    """What an engine with a Talker can say."""

    tokenizer: Tokenizer | None

    @abstractmethod
    def require_speaker(self) -> Speaker:
        """The speaker. Raises MissingModule without a Talker."""

    @abstractmethod
    def generate_stream(self, text: str = "", *, echo: bool = False, **options: Any) -> Iterator[str]:
        """The pieces of an answer."""

    @property
    def speech_rate(self) -> int:
        """Sample rate of spoken waveforms, Hz."""
        return self.require_speaker().decoder.sample_rate

    def voice(self, recording: VoiceSource) -> Voice:
        """The voice of a recording (a file, bytes, or a waveform (N,) at the codec's rate), of a Talker that was trained with
        `speaker_vector`: to speak more than once with it. Raises InvalidMedia for a recording without a voice to take."""
        return self.require_speaker().voice(recording)

    def generate_speech(
        self, text: str, *, voice: VoiceSource = 0, look_ahead: int | None = None, **options: Any
    ) -> Tensor:
        """Text -> waveform (N,) at `speech_rate` Hz, deterministic, peak-normalised if a vocoder makes it. Logged if the frame
        limit cuts it off; see `speak` for a flag. voice: a speaker's number, or a recording whose voice is taken (`voice`).
        look_ahead: as of `generate_speech_stream`, whose waveform this is. options: guidance, code_penalty, code_temperature,
        code_seed (`SpeechOptions`)."""
        if look_ahead is not None:
            return torch.cat(list(self.generate_speech_stream(text, voice=voice, look_ahead=look_ahead, **options)))
        (spoken,) = self.speak([text], voices=[voice], **options)
        warn_of_cut(spoken.timings)
        return spoken.waveform

    def generate_speech_stream(
        self,
        text: str | Iterable[str],
        *,
        voice: VoiceSource = 0,
        look_ahead: int | None = None,
        patience: float | None = PATIENCE,
        ended: Callable[[Timings], None] = warn_of_cut,
        timings: Timings | None = None,
        **options: Any,
    ) -> Iterator[Tensor]:
        """`generate_speech` in chunks (N,), yielded while the Talker decodes; joined they are the same waveform at the same
        look-ahead, however the text is cut into pieces.

        text: a text, or its pieces while they are written. look_ahead: characters that are known after the one that is spoken,
        so that speech begins within the first sentence; None: speech of a sentence begins when its end is known. patience:
        seconds that the next piece may take; then TextStalled is raised, after all that could be spoken before. timings: filled
        meanwhile. `ended` is called with them at the end; default: log if the frame limit cut it off. A text of which nothing
        can be spoken is an error: of a string at once, of pieces at their end. options: as of `generate_speech`.
        """
        return self._loop(voice, look_ahead, timings, ended, options).stream(text, patience=patience)

    def generate_spoken_stream(
        self,
        text: str = "",
        *,
        voice: VoiceSource = 0,
        look_ahead: int | None = None,
        ended: Callable[[Timings], None] = warn_of_cut,
        timings: Timings | None = None,
        **options: Any,
    ) -> Iterator[str | Tensor]:
        """`speak_along` of an answer: it is spoken while it is generated, in one loop. options: as of `answer`, and of
        `generate_speech`."""
        spoken = {name: options.pop(name) for name in NAMES if name in options}
        how: dict[str, Any] = {"voice": voice, "look_ahead": look_ahead, "ended": ended, "timings": timings} | spoken
        return self.speak_along(self.generate_stream(text, **options), **how)

    def speak_along(
        self,
        pieces: Iterable[str],
        *,
        voice: VoiceSource = 0,
        look_ahead: int | None = None,
        ended: Callable[[Timings], None] = warn_of_cut,
        timings: Timings | None = None,
        **options: Any,
    ) -> Iterator[str | Tensor]:
        """Each piece of a text, and after it the chunks (N,) of speech that it completes. A text without anything to speak is
        text alone, which is logged. Options: as of `generate_speech_stream`; timings: of the speech."""
        return _spoken(pieces, self._loop(voice, look_ahead, timings, ended, options))

    def _loop(
        self,
        voice: VoiceSource,
        look_ahead: int | None,
        timings: Timings | None,
        ended: Callable[[Timings], None],
        options: dict[str, Any],
    ) -> SpeechLoop:
        return SpeechLoop(
            self.require_speaker(),
            self.tokenizer,
            voice=voice,
            look_ahead=look_ahead,
            timings=timings or Timings(),
            ended=ended,
            options=speech_options(options),
        )

    @raised_as(MuomniError, param=None)
    def speak(
        self, texts: Sequence[str], *, voices: Sequence[VoiceSource] | None = None, **options: Any
    ) -> list[Utterance]:
        """Several texts at once, each equal to its single run, with codes and a flag for those cut off by the frame limit. A
        text is spoken sentence by sentence, with short pauses. Their timings are those of the batch. options: as of
        `generate_speech`.

        Texts are normalised to the characters that the Talker was trained on (`alphabet` in the metadata): numbers and signs
        become words. Raises MuomniError for a text of which nothing remains, and for an unknown voice.
        """
        speaker, chosen = self.require_speaker(), speech_options(options)
        require_sequence("texts", texts, of="strings", single="generate_speech takes a single one")
        texts = list(texts)
        voices = [0] * len(texts) if voices is None else voices
        require_sequence("voices", voices, of="numbers", single="one for each text")
        voices = list(voices)
        if len(voices) != len(texts):
            raise InvalidOption(
                f"{len(texts)} texts and {len(voices)} voices: a voice for each is needed", param="voices"
            )
        if not texts:
            return []
        sentences = [speaker.prepare(text, self.tokenizer) for text in texts]
        return speaker.speak(sentences, voices=voices, timings=Timings(), options=chosen)


def _spoken(pieces: Iterable[str], loop: SpeechLoop) -> Iterator[str | Tensor]:
    for piece in pieces:
        yield piece
        loop.feed(piece)
        yield from loop.blocks()
    loop.close()
    if loop.silent:
        log.warning("nothing in the text can be spoken: it stands alone")
        return
    yield from loop.blocks()
