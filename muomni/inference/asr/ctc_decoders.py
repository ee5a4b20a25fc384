"""CTC decoders of a segment: greedy, or beam search with an n-gram or with rescoring by the Thinker.

Legend: T' encoder frames, S symbols, N samples.
"""

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from muomni.frontends.char_vocab import collapse_ctc, decode_characters
from muomni.inference.asr.ctc_beam import CtcBeamSearch
from muomni.inference.asr.ngram import NGram
from muomni.inference.asr.rescoring import ThinkerScorer
from muomni.inference.errors import InvalidOption, raised_as
from muomni.short_repr import shown

MAX_BEAMS = 1000  # the search is plain Python: minutes per second of audio beyond that
NGRAM_WEIGHT, NGRAM_BONUS = 0.5, 1.0  # of an n-gram's log P, and of each character
THINKER_WEIGHT, THINKER_BONUS = 0.5, 0.0  # conditioned on the clip, the Thinker does not prefer short texts


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

    Raises InvalidOption for beams below 1, a negative weight, and for a language model with greedy decoding.
    """
    if not isinstance(beams, int) or isinstance(beams, bool) or not 1 <= beams <= MAX_BEAMS:
        raise InvalidOption(
            f"beams={shown(beams, str)}: a whole number from 1 (greedy) to {MAX_BEAMS} is needed", param="beams"
        )
    if lm is None and lm_weight is not None:
        raise InvalidOption(
            "lm_weight= is the weight of a language model: name one by lm=FILE or lm=thinker", param="lm_weight"
        )
    number = isinstance(lm_weight, int | float) and not isinstance(lm_weight, bool)
    if lm_weight is not None and not (number and 0 <= lm_weight < math.inf):
        raise InvalidOption(f"lm_weight={shown(lm_weight, str)}: a number of at least 0 is needed", param="lm_weight")
    if lm is None and beams == 1:
        return functools.partial(greedy_decode, characters=characters) if characters else greedy_decode
    if beams == 1:
        raise InvalidOption("lm= needs a beam search: give beams=16 or so with it", param="lm")
    if lm is not None and not isinstance(lm, NGram | ThinkerScorer | str | Path):
        raise InvalidOption(f'lm={shown(lm)}: an NGram, its file, or "thinker" is needed', param="lm")
    if isinstance(lm, str | Path):
        with raised_as(InvalidOption, param="lm"):
            lm = NGram.load(lm)
    if isinstance(lm, NGram):
        weight = NGRAM_WEIGHT if lm_weight is None else lm_weight
        search = CtcBeamSearch(beams=beams, lm=lm.for_characters(characters), lm_weight=weight, bonus=NGRAM_BONUS)
        return CtcBeamDecoder(search=search, characters=characters)
    search = CtcBeamSearch(beams=beams, lm=None, lm_weight=0.0, bonus=0.0)
    weight = THINKER_WEIGHT if lm_weight is None else lm_weight
    return CtcBeamDecoder(search=search, scorer=lm, weight=weight, bonus=THINKER_BONUS, characters=characters)
