"""Transcription of recordings of any length: windowed encoding, segmentation, CTC decoding of each segment, forced alignment.

Legend: T mel frames, M mel bins, T' encoder frames, S symbols, N samples.
"""

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from muomni.frontends.char_vocab import collapse_ctc, decode_characters
from muomni.inference.asr.alignment import Word, align_words
from muomni.inference.asr.ctc_beam import CtcBeamSearch
from muomni.inference.asr.long_audio import Segment, Windows, log_probs_in_windows, segment_at_silences
from muomni.inference.asr.ngram import NGram
from muomni.inference.asr.rescoring import ThinkerScorer
from muomni.models.audio import Audio
from muomni.short_repr import shown

WINDOWS = Windows(length=8.0, overlap=2.0, pause=0.6, max_segment=16.0)
MAX_BEAMS = 1000  # the search is plain Python: minutes per second of audio beyond that
BATCH_SIZE = 16  # windows per forward
NGRAM_WEIGHT, NGRAM_BONUS = 0.5, 1.0  # of an n-gram's log P, and of each character
THINKER_WEIGHT, THINKER_BONUS = 0.5, 0.0  # conditioned on the clip, the Thinker does not prefer short texts


@dataclass(frozen=True, slots=True)
class Transcript:
    """A text and its words with their times."""

    text: str
    words: list[Word]

    def lines(self) -> list[str]:
        """One line per word: start and end in seconds and the word, separated by tabs (Audacity's label format)."""
        return [f"{word.start:.2f}\t{word.end:.2f}\t{word.text}" for word in self.words]


class CtcDecoder(Protocol):
    """Decodes a segment."""

    def __call__(self, log_probs: Tensor, waveform: Tensor) -> str:
        """Log-probabilities (T', S) of a segment and its waveform (N) -> its text, spaces at its ends included."""
        ...


def greedy_decode(log_probs: Tensor, waveform: Tensor, *, characters: str | None = None) -> str:
    """The most likely symbol of every frame, collapsed. characters: the encoder's alphabet."""
    return decode_characters(collapse_ctc(log_probs.argmax(-1).tolist()), characters)


@dataclass(frozen=True, kw_only=True)
class CtcBeamDecoder:
    """The best hypothesis of a beam search; with a `scorer` by acoustic + weight x its log-probability + bonus per
    character."""

    search: CtcBeamSearch
    scorer: ThinkerScorer | None = None
    weight: float = 0.0
    bonus: float = 0.0
    characters: str | None = None

    def __call__(self, log_probs: Tensor, waveform: Tensor) -> str:
        """See `CtcDecoder`."""
        hypotheses = self.search(log_probs)
        texts = [decode_characters(hypothesis.ids, self.characters) for hypothesis in hypotheses]
        if self.scorer is None or len(hypotheses) == 1:
            return texts[0]
        language = self.scorer(waveform, [text.strip() for text in texts])
        scores = [
            hypothesis.acoustic + self.weight * log_prob + self.bonus * len(hypothesis.ids)
            for hypothesis, log_prob in zip(hypotheses, language, strict=True)
        ]
        return texts[scores.index(max(scores))]


def build_decoder(
    *,
    beams: int = 1,
    lm: NGram | ThinkerScorer | str | Path | None = None,
    lm_weight: float | None = None,
    characters: str | None = None,
) -> CtcDecoder:
    """A decoder for these options. beams: 1 is greedy. lm: an n-gram model or its file, which guides the search, or a Thinker,
    which rescores its hypotheses. lm_weight: of its log-probabilities relative to the encoder's; None is the default of its
    type. characters: the encoder's alphabet.

    Raises ValueError for beams below 1, a negative weight, and for a language model with greedy decoding.
    """
    if not isinstance(beams, int) or isinstance(beams, bool) or not 1 <= beams <= MAX_BEAMS:
        raise ValueError(f"beams={shown(beams, str)}: a whole number from 1 (greedy) to {MAX_BEAMS} is needed")
    if lm is None and lm_weight is not None:
        raise ValueError("lm_weight= is the weight of a language model: name one by lm=FILE or lm=thinker")
    number = isinstance(lm_weight, int | float) and not isinstance(lm_weight, bool)
    if lm_weight is not None and not (number and 0 <= lm_weight < math.inf):
        raise ValueError(f"lm_weight={shown(lm_weight, str)}: a number of at least 0 is needed")
    if lm is None and beams == 1:
        return functools.partial(greedy_decode, characters=characters) if characters else greedy_decode
    if beams == 1:
        raise ValueError("lm= needs a beam search: give beams=16 or so with it")
    if lm is not None and not isinstance(lm, NGram | ThinkerScorer | str | Path):
        raise ValueError(f'lm={shown(lm)}: an NGram, its file, or "thinker" is needed')
    if isinstance(lm, str | Path):
        lm = NGram.load(lm)
    if isinstance(lm, NGram):
        weight = NGRAM_WEIGHT if lm_weight is None else lm_weight
        search = CtcBeamSearch(beams=beams, lm=lm.for_characters(characters), lm_weight=weight, bonus=NGRAM_BONUS)
        return CtcBeamDecoder(search=search, characters=characters)
    search = CtcBeamSearch(beams=beams, lm=None, lm_weight=0.0, bonus=0.0)
    weight = THINKER_WEIGHT if lm_weight is None else lm_weight
    return CtcBeamDecoder(search=search, scorer=lm, weight=weight, bonus=THINKER_BONUS, characters=characters)


class Transcriber:
    """Callable: waveform (N) and mel (T, M) of a recording, a decoder -> its transcript.

    Args:
        audio: the encoder with its head. hop: samples per mel frame. sample_rate: of the waveform, Hz. windows: for recordings
            longer than one of them. max_frames: maximum encoder frames of a segment; None: no limit.
    """

    def __init__(
        self, audio: Audio, *, hop: int, sample_rate: int, windows: Windows = WINDOWS, max_frames: int | None = None
    ) -> None:
        self.audio, self.hop = audio, hop
        self.frame_rate = sample_rate / hop  # of the mel
        self.frame_seconds = audio.downsample / self.frame_rate
        self.windows = windows if max_frames is None else windows.at_most(max_frames * self.frame_seconds)

    @torch.inference_mode()
    def __call__(
        self,
        waveform: Tensor,
        mel: Tensor,
        decoder: CtcDecoder,
        *,
        timestamps: bool,
        spans: list[tuple[int, int]] | None = None,
    ) -> Transcript:
        """spans: frames (begin, end) of the mel that contain speech; None: all. `words` is empty without `timestamps`; their
        times are those of the whole recording."""
        log_probs = self.log_probs(mel, spans)
        step = self.audio.downsample * self.hop
        transcript = ""
        words: list[Word] = []
        for segment in self.segments(log_probs):
            frames = log_probs[segment.begin : segment.end]
            text = decoder(frames, waveform[segment.begin * step : segment.end * step])
            if timestamps:
                offset = segment.begin * self.frame_seconds
                aligned = align_words(
                    frames, text, frame_seconds=self.frame_seconds, offset=offset, characters=self.audio.characters
                )
                words = join_words(words, aligned, divided=not segment.pause and inside_a_word(transcript, text))
            transcript = f"{transcript.rstrip()} {text.lstrip()}" if segment.pause else transcript + text
        return Transcript(transcript.strip(), words)

    def log_probs(self, mel: Tensor, spans: list[tuple[int, int]] | None = None) -> Tensor:
        """mel (T, M) -> (T', S)."""
        length, overlap = (round(s * self.frame_rate) for s in (self.windows.length, self.windows.overlap))
        return log_probs_in_windows(self.audio, mel, length=length, overlap=overlap, batch_size=BATCH_SIZE, spans=spans)

    def segments(self, log_probs: Tensor) -> list[Segment]:
        """(T', S) -> the segments to decode; a single one if it is no longer than a window."""
        if len(log_probs) * self.frame_seconds <= self.windows.length:
            return [Segment(0, len(log_probs), pause=True)]
        pause, max_frames = (round(s / self.frame_seconds) for s in (self.windows.pause, self.windows.max_segment))
        return segment_at_silences(log_probs, pause=pause, max_frames=max_frames)


def inside_a_word(before: str, after: str) -> bool:
    """True if the cut between two texts divides a word."""
    return bool(before and after) and not before[-1].isspace() and not after[0].isspace()


def join_words(words: list[Word], more: list[Word], *, divided: bool) -> list[Word]:
    """Append a segment's words; `divided`: the last of `words` and the first of `more` are one word."""
    if not (divided and words and more):
        return words + more
    joined = Word(words[-1].text + more[0].text, words[-1].start, more[0].end)
    return [*words[:-1], joined, *more[1:]]
