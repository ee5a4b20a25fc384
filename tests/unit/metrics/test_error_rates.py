"""Corpus-level error rates."""

import pytest

from muomni.metrics.error_rates import error_rates, shuffled


def test_all_edits_by_all_characters():
    rates = error_rates(["abcd", "x"], ["abcf", "xy zzz"])
    assert rates["cer"] == pytest.approx(100 * (1 + 5) / 10)
    assert rates["wer"] == pytest.approx(100 * (1 + 2) / 3)


def test_shuffled_moves_every_text():
    texts = ["a", "b", "c", "d", "e"]
    assert sorted(shuffled(texts)) == texts
    assert all(first != second for first, second in zip(texts, shuffled(texts), strict=True))
