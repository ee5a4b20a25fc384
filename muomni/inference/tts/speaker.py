"""Text to speech: Talker -> codes -> waveform, for any number of texts at once, by the decoding loop of the Thinker.

Shapes: B texts, C characters, T frames, K codebooks, E entries, N samples.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from muomni.frontends.spoken_symbols import encode_symbols, known_symbols
from muomni.frontends.text_form import form_named
from muomni.frontends.text_normalizer import LETTERS, NormalizedText, normalize_text
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.decoding.generate import generate
from muomni.inference.decoding.timings import Timings
from muomni.inference.errors import MISSING_MODULE_HELP, InvalidOption, MissingModule
from muomni.inference.tts.frame_choice import FrameChooser
from muomni.inference.tts.frame_decoder import FrameDecoder, first_frames
from muomni.inference.tts.frame_limit import MAX_FRAMES, frame_limit
from muomni.inference.tts.options import GREEDY, SpeechOptions
from muomni.inference.tts.reference import ReferenceVoice, Voice, speakers_of
from muomni.inference.tts.sentences import split_long, split_sentences
from muomni.inference.tts.speech_decoder import speech_decoder
from muomni.inference.tts.speech_stream import synthesize
from muomni.inference.tts.text_states import MODULE, TextStates
from muomni.inference.tts.vocoder_blocks import StreamingVocoder
from muomni.inference.validation import require_str
from muomni.models.codec import Codec
from muomni.models.talker import Talker
from muomni.models.waveform_codec import WaveformCodec
from muomni.short_repr import shown

log = logging.getLogger(__name__)

#: Frames a second, which `frame_limit` and the next two numbers are for: a codec of more frames takes as many more.
FRAME_RATE = 12.5
FRAMES_PER_CHARACTER = 4  # no voice is slower on the whole
CHARACTERS_PER_FRAME = 1  # nor faster
UNSPOKEN = 8  # characters to one of its words: no text has so many marks
MARGIN = 1.2  # of the predicted frames of a sentence below the limit
BATCH_SIZE = 32  # sentences that the Talker speaks at once


def warn_of_cut(timings: Timings) -> None:
    """Log if an utterance was cut off by its frame limit."""
    if timings.speech_cut:
        log.warning("the speech is%s", timings.cut_note().removeprefix(","))


@dataclass(frozen=True, slots=True)
class Sentence:
    """What the Talker speaks at once: a text in its alphabet, and the most frames that it may take."""

    text: str
    limit: int


@dataclass(slots=True)
class Utterance:
    """One spoken text. codes: of all its sentences; the waveform has pauses between them. timings: of the call that spoke
    it."""

    waveform: Tensor  # N
    codes: Tensor  # T K
    truncated: bool  # a sentence ended at the frame limit, not at the predicted stop
    timings: Timings


class Speaker:
    """A Talker, its codec and, for a codec of mels, a vocoder. The same text gives the same utterance, alone, in a batch or as a
    stream.

    alphabet: the characters that this Talker was trained on; `in_words` normalises a text to them, all other methods take such
    texts. form: of the texts that it was trained on (frontends/text_form.py). read_reference: recording -> its voice; None:
    voices are numbers. named: voices of recordings that a server knows by name. options: of `say`. states: of the Thinker that
    the Talker was trained with, unless it reads the text alone. Raises MissingModule where it needs them and has none.
    """

    def __init__(
        self,
        talker: Talker,
        codec: Codec | WaveformCodec,
        vocoder: StreamingVocoder | None,
        *,
        alphabet: str = LETTERS,
        form: str | None = None,
        read_reference: Callable[[Any], ReferenceVoice] | None = None,
        options: SpeechOptions = GREEDY,
        states: TextStates | None = None,
    ) -> None:
        options.check(talker)
        if states is None and talker.conditioning != "text":
            raise MissingModule(f"talker: {MISSING_MODULE_HELP[MODULE]}", param=MODULE)
        self.options, self.states = options, states
        self.read_reference, self.named = read_reference, dict[str, ReferenceVoice]()
        self.in_form = form_named(form)
        self.talker, self.alphabet = talker, talker.characters or alphabet
        self.decoder = speech_decoder(codec, vocoder)
        self.pace = max(1.0, self.decoder.frame_rate / FRAME_RATE)  # of the limits on frames

    def in_words(self, text: str) -> NormalizedText:
        """A written text in this Talker's alphabet, and the characters that have no spoken form."""
        return normalize_text(self.in_form(text), self.alphabet)

    def prepare(self, text: str, tokenizer: Tokenizer | None) -> list[Sentence]:
        """A written text -> its sentences, at least one. Characters without a spoken form are logged; raises ValueError for a
        text of which nothing remains."""
        require_str("text", text)
        sentences: list[Sentence] = []
        left_out: dict[str, None] = {}
        for written in split_sentences(text):
            for sentence, without_words in self.sentences(written, tokenizer):
                sentences += [] if sentence is None else [sentence]
                left_out |= dict.fromkeys(without_words)
        if not sentences:
            raise self.unspeakable(text)
        if left_out:
            log.warning("%r: %s", text[:40], NormalizedText("", "".join(left_out)).notice())
        return sentences

    def unspeakable(self, text: str) -> InvalidOption:
        """The error for a text without a sentence."""
        if not text.strip():
            return InvalidOption("an empty text cannot be spoken", param="text")
        return InvalidOption(
            f"nothing in {text[:40]!r} can be spoken: this Talker's characters are {self.alphabet!r}", param="text"
        )

    def sentences(self, written: str, tokenizer: Tokenizer | None) -> Iterator[tuple[Sentence | None, str]]:
        """A written sentence -> what is spoken of it, or None, and the characters that have no spoken form. More than one where
        the Talker's frame limit is too short for it; each is found when it is needed."""
        for piece in split_long(written, lambda text: self.fits(text, tokenizer)):
            said = self.in_words(piece)
            limit = self.limit_of(piece, said.text, tokenizer)
            yield Sentence(said.text, limit=limit) if said.text else None, said.left_out

    def limit_of(self, written: str, said: str, tokenizer: Tokenizer | None) -> int:
        """The most frames that a text, as written and in words, may take."""
        texts = () if tokenizer is None else (written, said)
        return self._limit(max((len(tokenizer.encode(text)) for text in texts), default=0))  # type: ignore[union-attr]

    def _limit(self, num_tokens: int) -> int:
        """`frame_limit`, in frames of this codec."""
        return round(frame_limit(num_tokens) * self.pace)

    def fits(self, written: str, tokenizer: Tokenizer | None) -> bool:
        """Whether a text takes no more frames than the Talker can speak at once, by its own prediction."""
        longest = min(self._limit(0) if tokenizer is None else round(MAX_FRAMES * self.pace), self.talker.max_frames)
        if len(written) > UNSPOKEN * CHARACTERS_PER_FRAME * longest:  # spares the words of what will be cut anyway
            return False
        text = self.in_words(written).text
        if self.states is not None and not self.states.fits(text):
            return False
        if len(text) * FRAMES_PER_CHARACTER * self.pace <= longest:  # spares the prediction
            return True
        if len(text) > CHARACTERS_PER_FRAME * longest:  # its attention would take a minute for 20,000 characters
            return False
        return self.predicted_frames([text], [0])[0] * MARGIN <= longest

    def speak(
        self, texts: list[list[Sentence]], *, voices: list[Any], timings: Timings, options: SpeechOptions = GREEDY
    ) -> list[Utterance]:
        """Speak the sentences of each text. voices: of the texts, as of `voice`. Raises ValueError for an empty sentence, an
        unknown voice, and options that the Talker does not know."""
        options.check(self.talker)
        _check_texts([sentence.text for sentences in texts for sentence in sentences])
        voices = [self.voice(each) for each in voices]
        rows = [(sentence, voice) for sentences, voice in zip(texts, voices, strict=True) for sentence in sentences]
        codes: list[Tensor] = []
        cut: list[bool] = []
        for begin in range(0, len(rows), BATCH_SIZE):
            batch = rows[begin : begin + BATCH_SIZE]
            more, truncated = self.codes(
                [sentence.text for sentence, _ in batch],
                limits=[sentence.limit for sentence, _ in batch],
                voices=[voice for _, voice in batch],
                timings=timings,
                options=options,
            )
            codes, cut = codes + more, cut + truncated
        spoken: list[Utterance] = []
        timings.vocoder = self.decoder.name
        with timings.span("speech"):
            for sentences in texts:
                own, codes = codes[: len(sentences)], codes[len(sentences) :]
                truncated, cut = cut[: len(sentences)], cut[len(sentences) :]
                waveform = synthesize(own, self.decoder)
                spoken.append(Utterance(waveform, torch.cat(own), truncated=any(truncated), timings=timings))
        timings.first_audio = timings.speech  # all of it comes at once
        timings.audio_seconds += sum(len(one.waveform) for one in spoken) / self.decoder.sample_rate
        return spoken

    @torch.inference_mode()
    def codes(
        self,
        texts: list[str],
        *,
        limits: list[int],
        voices: Sequence[Voice],
        timings: Timings,
        options: SpeechOptions = GREEDY,
    ) -> tuple[list[Tensor], list[bool]]:
        """The Talker's codes (T_i, K) of each text, and whether the frame limit cut it off."""
        _check_texts(texts)
        voices = [self.voice(each) for each in voices]
        with timings.span("speech"):
            decoder, first, limits = self.begin(texts, limits, voices, options=options)
            spoken = generate(decoder, first, limits=torch.tensor(limits, device=first.device))
        rows = [row[:, :-1] for row in spoken.rows()]
        timings.frames += sum(len(row) for row in rows)
        timings.speech_cut |= not bool(spoken.ended.all())
        return rows, (~spoken.ended).tolist()

    def say(self, texts: list[str], voices: Sequence[Voice]) -> tuple[list[Tensor], list[bool]]:
        """`codes` with frame limits by each text's number of words, and the speaker's own options."""
        limits = [self._limit(len(text.split())) for text in texts]
        return self.codes(texts, limits=limits, voices=voices, timings=Timings(), options=self.options)

    @torch.inference_mode()
    def predicted_frames(self, texts: list[str], voices: Sequence[Voice]) -> list[float]:
        """The Talker's own prediction of how many frames each text takes, fractional."""
        speakers = speakers_of(self.talker, voices)
        return [float(frames) for frames in self.talker.num_frames(**self._encode(texts), speakers=speakers)]

    @torch.inference_mode()
    def frames_before(self, text: str, *, voice: Voice, look_ahead: int) -> int:
        """Frames that end before the last `look_ahead` characters of a text begin, by the Talker's prediction."""
        known = known_symbols(text, len(text) - look_ahead, self.talker.reads)
        if known < 1:
            return 0
        times = self.talker.times(**self._encode([text]), speakers=speakers_of(self.talker, [voice]))
        return min(int(times[0, known - 1]), self.talker.max_frames - 1)

    def voice(self, voice: Any) -> Voice:
        """A speaker's number, or a recording of somebody (`sources.Source`) -> a voice; a voice as it is. Raises ValueError for a
        number that this Talker does not have and for a recording without a voice to take."""
        if isinstance(voice, ReferenceVoice):
            return voice
        if isinstance(voice, int | float):
            count = self.talker.num_speakers
            if isinstance(voice, bool | float) or not 0 <= voice < count:
                raise InvalidOption(
                    f"unknown voice {shown(voice)}; this Talker has the voices 0..{count - 1}", param="voice"
                )
            return voice
        if voice is None:
            raise InvalidOption("unknown voice None; a speaker's number, or a recording, is needed", param="voice")
        return self.recorded_voice(voice)

    def recorded_voice(self, recording: Any) -> ReferenceVoice:
        """The voice of a recording."""
        if self.read_reference is None:
            raise InvalidOption(f"voice={shown(recording)}: a speaker's number is needed", param="voice")
        return self.read_reference(recording)

    def begin(
        self,
        texts: list[str],
        limits: list[int],
        voices: Sequence[Voice],
        codes: Tensor | None = None,
        options: SpeechOptions = GREEDY,
        talker: Talker | None = None,
    ) -> tuple[FrameDecoder, Tensor, list[int]]:
        """Prefill the texts, and the codes (B, T, K) that were spoken of them so far, by the `talker` of the decoder that spoke
        them; returns the decoder, the next frames (B, K + 1) and the frame limits, of all frames."""
        limits = [min(limit, self.talker.max_frames) for limit in limits]
        decoder, first = first_frames(
            self.talker if talker is None else talker,
            **self._encode(texts),
            speakers=speakers_of(self.talker, voices),
            most=max(limits),
            choose=FrameChooser(options, pace=self.pace, codes=codes),
            codes=codes,
        )
        return decoder, first, limits

    def _encode(self, texts: list[str]) -> dict[str, Tensor]:
        """Normalised texts -> what the Talker's methods take of them: ids of what is read (B, C), right-padded, lengths (B), and
        states (B, C, H) if it is told any."""
        device = self.talker.start.device
        reads, own = self.talker.reads, self.talker.characters
        rows = [torch.tensor(encode_symbols(text, reads=reads, characters=own)) for text in texts]
        lengths = torch.tensor([len(row) for row in rows], device=device)
        read = {"text": pad_sequence(rows, batch_first=True).to(device), "text_lengths": lengths}
        return read if self.states is None else read | {"states": self.states.on(device)(texts, reads=reads)}


def _check_texts(texts: list[str]) -> None:
    for text in texts:
        if not text.strip():
            raise InvalidOption("an empty text cannot be spoken", param="text")
