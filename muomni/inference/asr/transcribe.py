"""A recording of any length -> what is said in it, and when: windows, pieces, a reader of each piece, forced alignment.

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
from muomni.inference.asr.ctc_beam import BeamSearch
from muomni.inference.asr.long_audio import Piece, Windows, cut_at_silences, log_probs_in_windows
from muomni.inference.asr.ngram import NGram
from muomni.inference.asr.rescoring import ThinkerScorer
from muomni.models.audio import Audio
from muomni.short_repr import shown

WINDOWS = Windows(length=8.0, overlap=2.0, pause=0.6, longest=16.0)
MAX_BEAMS = 1000  # their search is plain Python: minutes a second of sound beyond that
BATCH_SIZE = 16  # windows heard at a time
NGRAM_WEIGHT, NGRAM_BONUS = 0.5, 1.0  # of log P by an n-gram, and of each character
THINKER_WEIGHT, THINKER_BONUS = 0.5, 0.0  # the Thinker hears the clip, it does not prefer short texts


@dataclass(frozen=True, slots=True)
class Transcript:
    """A text and its words with their times."""

    text: str
    words: list[Word]

    def lines(self) -> list[str]:
        """A word a line: start, end in seconds and the word between tabs, as Audacity reads labels."""
        return [f"{word.start:.2f}\t{word.end:.2f}\t{word.text}" for word in self.words]


class Reader(Protocol):
    """Log-probabilities (T', S) of a piece and its waveform (N) -> its text, spaces at its ends included."""

    def __call__(self, log_probs: Tensor, waveform: Tensor) -> str:
        """Write down a piece."""
        ...


def read_greedily(log_probs: Tensor, waveform: Tensor, *, characters: str | None = None) -> str:
    """The likeliest symbol of every frame, collapsed. characters: the encoder's own."""
    return decode_characters(collapse_ctc(log_probs.argmax(-1).tolist()), characters)


@dataclass(frozen=True, kw_only=True)
class BeamReader:
    """The best of the beams; with a `scorer` ranked once more, by acoustic + weight x its opinion + bonus a character."""

    search: BeamSearch
    scorer: ThinkerScorer | None = None
    weight: float = 0.0
    bonus: float = 0.0
    characters: str | None = None

    def __call__(self, log_probs: Tensor, waveform: Tensor) -> str:
        """Write down a piece."""
        found = self.search(log_probs)
        texts = [decode_characters(hypothesis.ids, self.characters) for hypothesis in found]
        if self.scorer is None or len(found) == 1:
            return texts[0]
        opinions = self.scorer(waveform, [text.strip() for text in texts])
        scores = [
            hypothesis.acoustic + self.weight * opinion + self.bonus * len(hypothesis.ids)
            for hypothesis, opinion in zip(found, opinions, strict=True)
        ]
        return texts[scores.index(max(scores))]


def build_reader(
    *,
    beams: int = 1,
    lm: NGram | ThinkerScorer | str | Path | None = None,
    lm_weight: float | None = None,
    characters: str | None = None,
) -> Reader:
    """beams: 1 is greedy. lm: an n-gram model, or its file, that guides the search, or a Thinker that ranks what it found.
    lm_weight: of its log-probabilities beside the encoder's; None is the default of its kind. characters: the encoder's own.

    Raises ValueError for beams below 1, a negative weight, and for a language model without beams to choose among.
    """
    if not isinstance(beams, int) or isinstance(beams, bool) or not 1 <= beams <= MAX_BEAMS:
        raise ValueError(f"beams={shown(beams, str)}: a whole number from 1 (greedy) to {MAX_BEAMS} is needed")
    if lm is None and lm_weight is not None:
        raise ValueError("lm_weight= weighs a language model: name one by lm=FILE or lm=thinker")
    number = isinstance(lm_weight, int | float) and not isinstance(lm_weight, bool)
    if lm_weight is not None and not (number and 0 <= lm_weight < math.inf):
        raise ValueError(f"lm_weight={shown(lm_weight, str)}: a number of at least 0 is needed")
    if lm is None and beams == 1:
        return functools.partial(read_greedily, characters=characters) if characters else read_greedily
    if beams == 1:
        raise ValueError("lm= chooses among the beams of a search: give beams=16 or so with it")
    if lm is not None and not isinstance(lm, NGram | ThinkerScorer | str | Path):
        raise ValueError(f'lm={shown(lm)}: an NGram, its file, or "thinker" is needed')
    if isinstance(lm, str | Path):
        lm = NGram.load(lm)
    if isinstance(lm, NGram):
        weight = NGRAM_WEIGHT if lm_weight is None else lm_weight
        search = BeamSearch(beams=beams, lm=lm.spelled(characters), lm_weight=weight, bonus=NGRAM_BONUS)
        return BeamReader(search=search, characters=characters)
    search = BeamSearch(beams=beams, lm=None, lm_weight=0.0, bonus=0.0)
    weight = THINKER_WEIGHT if lm_weight is None else lm_weight
    return BeamReader(search=search, scorer=lm, weight=weight, bonus=THINKER_BONUS, characters=characters)


class Transcriber:
    """Callable: waveform (N) and mel (T, M) of a recording, a reader -> its transcript.

    Args:
        audio: the encoder with its head. hop: samples a mel frame. sample_rate: of the waveform, Hz. windows: how what is
            longer than one of them is heard. longest: most frames of the encoder that its readers take; None: any.
    """

    def __init__(
        self, audio: Audio, *, hop: int, sample_rate: int, windows: Windows = WINDOWS, longest: int | None = None
    ) -> None:
        self.audio, self.hop = audio, hop
        self.frame_rate = sample_rate / hop  # of the mel
        self.frame_seconds = audio.downsample / self.frame_rate
        self.windows = windows if longest is None else windows.at_most(longest * self.frame_seconds)

    @torch.inference_mode()
    def __call__(
        self,
        waveform: Tensor,
        mel: Tensor,
        read: Reader,
        *,
        timestamps: bool,
        spans: list[tuple[int, int]] | None = None,
    ) -> Transcript:
        """spans: frames (begin, end) of the mel in which something is said; None: all. Words are empty without
        `timestamps`, which are those of the whole recording."""
        log_probs = self.log_probs(mel, spans)
        step = self.audio.downsample * self.hop
        whole = ""
        words: list[Word] = []
        for piece in self.pieces(log_probs):
            heard = log_probs[piece.begin : piece.end]
            text = read(heard, waveform[piece.begin * step : piece.end * step])
            if timestamps:
                offset = piece.begin * self.frame_seconds
                found = align_words(
                    heard, text, frame_seconds=self.frame_seconds, offset=offset, characters=self.audio.characters
                )
                words = join_words(words, found, divided=not piece.pause and inside_a_word(whole, text))
            whole = f"{whole.rstrip()} {text.lstrip()}" if piece.pause else whole + text
        return Transcript(whole.strip(), words)

    def log_probs(self, mel: Tensor, spans: list[tuple[int, int]] | None = None) -> Tensor:
        """mel (T, M) -> (T', S)."""
        length, overlap = (round(s * self.frame_rate) for s in (self.windows.length, self.windows.overlap))
        how = {"length": length, "overlap": overlap, "batch_size": BATCH_SIZE}
        return log_probs_in_windows(self.audio, mel, spans=spans, **how)

    def pieces(self, log_probs: Tensor) -> list[Piece]:
        """(T', S) -> what is written down at once: all of it where it is no longer than a window."""
        if len(log_probs) * self.frame_seconds <= self.windows.length:
            return [Piece(0, len(log_probs), pause=True)]
        pause, longest = (round(s / self.frame_seconds) for s in (self.windows.pause, self.windows.longest))
        return cut_at_silences(log_probs, pause=pause, longest=longest)


def inside_a_word(before: str, after: str) -> bool:
    """Whether a cut between two texts goes through a word."""
    return bool(before and after) and not before[-1].isspace() and not after[0].isspace()


def join_words(words: list[Word], more: list[Word], *, divided: bool) -> list[Word]:
    """Words of a piece behind those before it; `divided`: the last of these and the first of those are one."""
    if not (divided and words and more):
        return words + more
    whole = Word(words[-1].text + more[0].text, words[-1].start, more[0].end)
    return [*words[:-1], whole, *more[1:]]
