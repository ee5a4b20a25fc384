"""Corpus-level error rates."""

import numpy as np
import pytest
import torch

from muomni.metrics.error_rates import bootstrap_interval, error_rates, error_spread, shuffled


def test_all_edits_by_all_characters():
    rates = error_rates(["abcd", "x"], ["abcf", "xy zzz"])
    assert rates["cer"] == pytest.approx(100 * (1 + 5) / 10)
    assert rates["wer"] == pytest.approx(100 * (1 + 2) / 3)


def test_shuffled_moves_every_text():
    texts = ["a", "b", "c", "d", "e"]
    assert sorted(shuffled(texts)) == texts
    assert all(first != second for first, second in zip(texts, shuffled(texts), strict=True))


def test_mean_median_and_capped_mean_are_of_the_sentences_own_rates():
    """Edits 0 of 4, 1 of 2, 6 of 2: rates 0, 50 and 300; the corpus' is 7 of 8."""
    spread = error_spread(["abcd", "ax", "abcdefgh"], ["abcd", "ab", "ab"])
    assert spread["mean"] == pytest.approx(350 / 3)
    assert spread["median"] == pytest.approx(50)
    assert spread["capped"] == pytest.approx(150 / 3)
    assert spread["low"] < 700 / 8 < spread["high"]


def test_the_interval_is_that_of_the_resamples():
    """Of two sentences of one length a resample has 0, 1 or 2 wrong ones, with chances of 1/4, 1/2, 1/4."""
    assert bootstrap_interval(np.array([0.0, 4.0]), np.array([4.0, 4.0])) == (0.0, 1.0)
    assert bootstrap_interval(np.array([1.0, 2.0]), np.array([10.0, 20.0])) == pytest.approx((0.1, 0.1))
    many = np.arange(400) % 4 == 0  # a quarter of 400 right or wrong: 25 +- 1.96 * sqrt(.25 * .75 / 400)
    assert bootstrap_interval(many.astype(float), np.ones(400)) == pytest.approx((0.2076, 0.2924), abs=0.006)


def test_the_interval_is_the_same_each_time_and_draws_nothing_from_the_runs_generators():
    torch.manual_seed(0), np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    spreads = [error_spread(["abc", "b", "cc"], ["abd", "bbb", "c"]) for _ in range(2)]
    assert spreads[0] == spreads[1]
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_one_sentence_has_an_interval_of_no_width():
    spread = error_spread(["ab"], ["ac"])
    assert spread == {"low": 50.0, "high": 50.0, "mean": 50.0, "median": 50.0, "capped": 50.0}
