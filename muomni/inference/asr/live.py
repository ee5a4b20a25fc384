"""Recognition while somebody speaks: pieces of a waveform in, partial transcripts out.

Turns are found by a gate (turns.py); each is read from its begin by a reader of its own (live_reader.py). Its text is greedy:
the frames that are settled spell a text that only grows, those that are open spell what may still change.

Legend: N samples, T' encoder frames, S symbols.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from muomni.frontends.audio_io import HIGHEST_RATE, LARGEST_RATIO, LOWEST_RATE
from muomni.frontends.channels import LOUDEST
from muomni.frontends.char_vocab import BLANK, decode_characters
from muomni.frontends.hearing import Hearing
from muomni.frontends.resampler import Resampler
from muomni.inference.asr.alignment import Word, align_words
from muomni.inference.asr.live_reader import LiveReader, Reading, live_reader
from muomni.inference.asr.turns import GATES, RATE, TurnDetector
from muomni.inference.errors import InvalidMedia, InvalidOption
from muomni.inference.patience import PATIENCE, patient_audio
from muomni.inference.sources import array_to_waveform
from muomni.inference.validation import require_bool, require_number
from muomni.models.encoders import AudioEncoder

BLOCK = 0.1  # seconds of a long piece that are read at once
MOST_SECONDS = 60.0  # of a turn: a longer one is cut there


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """vad: how turns are found, energy | silero | None: all is one turn, up to a minute each. threshold: of the gate, 0 to 1.
    silence, padding: milliseconds that end a turn, and that are kept before its first sound. rate: of the pieces in Hz, None: the
    encoder's. patience: seconds that the next piece may take, None: any. words: also align the words of a turn that has ended."""

    vad: str | None = "energy"
    threshold: float = 0.5
    silence: int = 700
    padding: int = 300
    rate: int | None = None
    patience: float | None = PATIENCE
    words: bool = False


@dataclass(frozen=True, slots=True)
class PartialTranscript:
    """What is known of a turn.

    text: final, a later one of the turn begins with it; tentative: what follows it and may change. turn: its number, from 0.
    start: seconds of the stream at which it begins; settled: up to which the text is final; heard: that were read. ended: the
    turn is over, there is nothing tentative. words: of an ended turn with their seconds in the stream, if the options want them.
    """

    text: str
    tentative: str
    turn: int
    start: float
    settled: float
    heard: float
    ended: bool = False
    words: tuple[Word, ...] = ()

    def __str__(self) -> str:
        return self.text + self.tentative


class GreedyText:
    """The text of logits, as far as they came: repeats merged, blanks left out. characters: the encoder's alphabet."""

    def __init__(self, characters: str | None) -> None:
        self.characters = characters
        self.ids: list[int] = []
        self.last = BLANK
        self.frames = 0

    def add(self, reading: Reading) -> tuple[str, str]:
        """The final text, and the tentative one after it."""
        self.last = _spell(reading.settled, self.ids, self.last)
        self.frames += len(reading.settled)
        whole = list(self.ids)
        _spell(reading.open, whole, self.last)
        text = decode_characters(self.ids, self.characters).strip()
        return text, decode_characters(whole, self.characters).strip()[len(text) :]


def _spell(logits: Tensor, ids: list[int], last: int) -> int:
    """Append the symbols of logits (T', S) to ids, after a frame of symbol `last`; returns that of the last frame."""
    for symbol in logits.argmax(-1).tolist():
        if symbol not in (BLANK, last):
            ids.append(symbol)
        last = symbol
    return last


class LiveTurn:
    """A turn that is being read. begin: its first sample in the stream. words: align them at its end."""

    def __init__(
        self, reader: LiveReader, *, number: int, begin: int, frame: float, rate: int, alphabet: str | None, words: bool
    ) -> None:
        self.reader, self.begin, self.end = reader, begin, begin
        self.settled: list[Tensor] | None = [] if words else None  # logits (T', S)
        self.frame, self.rate = frame, rate  # seconds of an encoder frame; Hz
        self.text = GreedyText(alphabet)
        self.said = PartialTranscript("", "", number, begin / rate, begin / rate, begin / rate)

    def push(self, samples: Tensor) -> Iterator[PartialTranscript]:
        """samples (N) -> a transcript for each step that changes what is known."""
        self.end += len(samples)
        for reading in self.reader.push(samples):
            before, said = self.said, self._updated(reading)
            if (said.text, said.tentative) != (before.text, before.tentative):
                yield said

    def close(self) -> PartialTranscript:
        """The whole text."""
        said = self._updated(self.reader.close())
        return replace(said, tentative="", settled=self.end / self.rate, ended=True, words=tuple(self._words()))

    def _words(self) -> list[Word]:
        if not self.settled:
            return []
        return align_words(
            torch.cat(self.settled).log_softmax(-1), self.said.text, frame_seconds=self.frame, offset=self.said.start,
            characters=self.text.characters,
        )  # fmt: skip

    def _updated(self, reading: Reading) -> PartialTranscript:
        if self.settled is not None:
            self.settled.append(reading.settled)
        text, tentative = self.text.add(reading)
        settled = min(self.said.start + self.text.frames * self.frame, self.end / self.rate)
        heard = self.end / self.rate
        self.said = replace(self.said, text=text, tentative=tentative, settled=settled, heard=heard)
        return self.said


class LiveTranscriber:
    """Transcribes one stream. Raises InvalidOption for a gate that is not there."""

    def __init__(self, audio: AudioEncoder, hearing: Hearing, options: LiveOptions) -> None:
        require_bool("words", options.words)
        self.audio, self.hearing, self.rate, self.words = audio, hearing, hearing.mel.sample_rate, options.words
        given = self.rate if options.rate is None else _checked_rate(options.rate, target=self.rate)
        self.resampler = None if given == self.rate else Resampler(given, self.rate)
        self.detector: TurnDetector | None = None
        if options.vad is not None:
            self.detector = _detector(options, rate=self.rate)
        self.waiting = torch.zeros(0)  # samples from number `first` on, which no turn has read
        self.first = 0
        self.turns = 0
        self.turn: LiveTurn | None = None

    @property
    def heard(self) -> float:
        """Seconds that came, at the encoder's rate."""
        return (self.first + len(self.waiting)) / self.rate

    @torch.inference_mode()
    def push(self, samples: Tensor) -> Iterator[PartialTranscript]:
        """samples (N) at the rate of the options."""
        samples = samples if self.resampler is None else self.resampler.push(samples)
        for block in samples.split(round(BLOCK * self.rate)) if len(samples) else ():
            yield from self._block(block)

    @torch.inference_mode()
    def close(self) -> Iterator[PartialTranscript]:
        """The stream has ended."""
        if self.resampler is not None and len(rest := self.resampler.close()):
            yield from self._block(rest)
        if self.turn is not None:
            yield from self._read(self.first + len(self.waiting))
            yield from self._end()

    def _block(self, samples: Tensor) -> Iterator[PartialTranscript]:
        self.waiting = torch.cat([self.waiting, samples])
        if self.detector is None:
            if self.turn is None:
                self._begin(self.first)
            yield from self._read(self.first + len(self.waiting))
            return
        for border in self.detector.push(samples):
            if border.event == "started":
                self._begin(max(border.sample, self.first))
            else:
                yield from self._read(border.sample)
                yield from self._end()
        yield from self._read(self.detector.position)
        if self.turn is None:  # what a turn that begins next may still have before its first sound
            kept = self.detector.padding + 5 * self.detector.gate.frame + len(self.detector.pending)
            self._forget(self.first + len(self.waiting) - kept)

    def _begin(self, sample: int) -> None:
        """A turn begins there."""
        self._forget(sample)
        frame = self.hearing.mel.hop * self.audio.downsample / self.rate
        self.turn = LiveTurn(
            live_reader(self.audio, self.hearing), number=self.turns, begin=sample, frame=frame, rate=self.rate,
            alphabet=self.audio.characters, words=self.words,
        )  # fmt: skip
        self.turns += 1

    def _read(self, end: int) -> Iterator[PartialTranscript]:
        """The turn, if there is one, reads up to a sample; where it is too long another one follows it."""
        while self.turn is not None and self.first < end:
            remaining = self.turn.begin + round(MOST_SECONDS * self.rate) - self.first
            count = min(end - self.first, remaining)
            samples, self.waiting = self.waiting[:count], self.waiting[count:]
            self.first += count
            yield from self.turn.push(samples)
            if count == remaining:
                yield from self._end()
                self._begin(self.first)

    def _end(self) -> Iterator[PartialTranscript]:
        if self.turn is not None:
            yield self.turn.close()
            self.turn = None

    def _forget(self, sample: int) -> None:
        """Drop what is waiting before a sample."""
        count = max(0, sample - self.first)
        self.waiting, self.first = self.waiting[count:].clone(), self.first + count


def transcribe_pieces(
    live: LiveTranscriber, pieces: Iterable[Any], options: LiveOptions
) -> Iterator[PartialTranscript]:
    """Transcripts of pieces while they come. Raises InvalidMedia naming a piece that is no audio, and AudioStalled."""
    came = patient_audio(pieces, options.patience, heard=lambda: live.heard)
    return _transcripts(live, came, rate=options.rate or live.rate)


def _transcripts(live: LiveTranscriber, pieces: Iterator[Any], *, rate: int) -> Iterator[PartialTranscript]:
    for number, piece in enumerate(pieces):
        yield from live.push(_samples(piece, number, rate=rate))
    yield from live.close()


def _samples(piece: Any, number: int, *, rate: int) -> Tensor:
    """A piece -> samples (N) float32."""
    where = f"piece {number} of the audio"
    if isinstance(piece, np.ndarray):
        piece = array_to_waveform(piece, rate=rate)
    if not isinstance(piece, Tensor) or piece.dim() != 1 or not piece.is_floating_point():
        shown = f"{piece.dtype} {tuple(piece.shape)}" if isinstance(piece, Tensor) else type(piece).__name__
        raise InvalidMedia(
            f"{where}: a waveform (N,) in [-1, 1] at {rate} Hz is needed, a tensor or an array, not {shown}",
            param="audio",
        )
    samples = piece.detach().float().cpu()
    if not bool(torch.isfinite(samples).all()):
        raise InvalidMedia(f"{where} holds NaN or Inf samples", param="audio")
    if len(samples) and float(samples.abs().max()) > LOUDEST:
        raise InvalidMedia(
            f"{where} holds samples up to {float(samples.abs().max()):.3g}, where 1 is full scale: give int16 as an array of "
            "that type, or divide by 32768",
            param="audio",
        )
    return samples


def _checked_rate(rate: Any, *, target: int) -> int:
    require_number("rate", rate, LOWEST_RATE, HIGHEST_RATE)
    if max(Fraction(int(rate), target).as_integer_ratio()) > LARGEST_RATIO:
        raise InvalidOption(
            f"rate={rate}: it has no small ratio to the encoder's {target} Hz: record at {target}, 44100 or 48000 Hz",
            param="rate",
        )
    return int(rate)


def _detector(options: LiveOptions, *, rate: int) -> TurnDetector:
    build: Callable[..., Any] | None = GATES.get(options.vad or "")
    if build is None:
        raise InvalidOption(f"vad={options.vad}: one of {', '.join(GATES)}, or None, is needed", param="vad")
    if rate != RATE:
        raise InvalidOption(
            f"vad={options.vad}: turns are found at {RATE} Hz, this encoder takes {rate} Hz: give vad=None", param="vad"
        )
    require_number("threshold", options.threshold, 0, 1)
    for name in ("silence", "padding"):
        require_number(name, getattr(options, name), 0, 60_000)
    return TurnDetector(build(threshold=options.threshold), silence=int(options.silence), padding=int(options.padding))
