"""Prefix beam search against the sum over all alignments, and its language model's say."""

import itertools
import math

import pytest
import torch

from muomni.frontends.char_vocab import collapse_ctc
from muomni.inference.asr.ctc_beam import CtcBeamSearch


def search(log_probs, *, beams=10_000, lm=None, lm_weight=0.0, bonus=0.0, floor=-math.inf):
    return CtcBeamSearch(beams=beams, lm=lm, lm_weight=lm_weight, bonus=bonus, floor=floor)(log_probs)


def all_alignments(log_probs):
    """Every path's probability, summed by the text that it collapses to."""
    sums = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        text = tuple(collapse_ctc(path))
        p = math.exp(sum(float(log_probs[frame, symbol]) for frame, symbol in enumerate(path)))
        sums[text] = sums.get(text, 0.0) + p
    return sums


@pytest.mark.parametrize("seed", range(12))
def test_it_sums_all_alignments(seed):
    generator = torch.Generator().manual_seed(seed)
    frames, symbols = 1 + seed % 5, 2 + seed % 3
    log_probs = (3 * torch.randn(frames, symbols, generator=generator)).log_softmax(-1)
    expected = all_alignments(log_probs)
    found = search(log_probs)
    assert {hypothesis.ids for hypothesis in found} == set(expected)
    for hypothesis in found:
        assert math.exp(hypothesis.acoustic) == pytest.approx(expected[hypothesis.ids], rel=1e-6)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    assert sum(math.exp(h.acoustic) for h in found) == pytest.approx(1.0, rel=1e-5)


def test_a_text_of_many_alignments_beats_the_best_path():
    """Two frames, P(a) = 0.4 and P(blank) = 0.6 in each: the best path is empty (0.36), the best text is "a" (0.64)."""
    log_probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
    best, second = search(log_probs)
    assert (best.ids, second.ids) == ((1,), ())
    assert math.exp(best.acoustic) == pytest.approx(0.64)


def test_a_repeated_symbol_needs_a_blank_between():
    log_probs = torch.tensor([[0.01, 0.99], [0.01, 0.99], [0.98, 0.02], [0.01, 0.99]]).log()
    assert search(log_probs)[0].ids == (1, 1)


class Likes:
    """Favours one symbol behind nothing, dislikes the rest; knows how often it was asked."""

    start = ()

    def __init__(self, symbol, end=0.0):
        self.symbol, self.asked, self.ending = symbol, 0, end

    def advance(self, state, symbol):
        self.asked += 1
        return (*state, symbol), math.log(0.9 if symbol == self.symbol else 0.1)

    def end(self, state):
        return self.ending


def test_a_language_model_turns_the_choice_and_is_counted_by_its_weight():
    log_probs = torch.tensor([[0.1, 0.5, 0.4]]).log()
    assert search(log_probs)[0].ids == (1,)
    best = search(log_probs, lm=Likes(2, end=-0.25), lm_weight=0.5, bonus=0.125)[0]
    assert best.ids == (2,)
    assert best.acoustic == pytest.approx(math.log(0.4))
    assert best.language == pytest.approx(math.log(0.9) - 0.25)
    assert best.score == pytest.approx(best.acoustic + 0.5 * best.language + 0.125)


def test_each_prefix_is_scored_by_the_language_model_once():
    log_probs = torch.randn(6, 3).log_softmax(-1)
    lm = Likes(1)
    found = search(log_probs, lm=lm, lm_weight=1.0)
    prefixes = {h.ids[:n] for h in found for n in range(1, len(h.ids) + 1)}
    assert lm.asked == len(prefixes)


def test_few_beams_and_a_floor_keep_what_matters():
    torch.manual_seed(0)
    log_probs = (4 * torch.randn(20, 12)).log_softmax(-1)
    wide, narrow = search(log_probs, beams=60), search(log_probs, beams=8, floor=-9.0)
    assert len(narrow) == 8
    assert narrow[0].ids == wide[0].ids
    with pytest.raises(ValueError, match="beams=0"):
        search(log_probs, beams=0)


def test_no_frames_are_the_empty_text():
    assert search(torch.zeros(0, 5))[0].ids == ()


@pytest.mark.parametrize("lm", [None, Likes(2)], ids=["without", "with a language model"])
def test_prefixes_that_are_not_tried_would_not_have_been_kept(lm):
    generator = torch.Generator().manual_seed(0)
    for sharpness in (1, 3, 6):
        log_probs = (sharpness * torch.randn(25, 9, generator=generator)).log_softmax(-1)
        searches = [CtcBeamSearch(beams=6, lm=lm, lm_weight=0.6, bonus=0.4) for _ in range(2)]
        searches[1].prunes = False
        assert searches[0](log_probs) == searches[1](log_probs)
