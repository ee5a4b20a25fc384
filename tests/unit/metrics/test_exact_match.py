"""Exact match and what stands beside it."""

import math

import pytest

from muomni.metrics.exact_match import interval, majority, pairs_right, percent


def test_percent_and_majority():
    assert percent([True, False, True, True]) == 75
    assert majority(["red", "blue", "red"]) == pytest.approx(200 / 3)
    assert math.isnan(percent([])) and math.isnan(majority([]))


def test_interval_is_wilsons():
    low, high = interval([True] * 8 + [False] * 2)
    assert low == pytest.approx(49.0, abs=0.1) and high == pytest.approx(94.3, abs=0.1)
    assert interval([True] * 10)[1] == pytest.approx(100)


def test_a_pair_counts_only_when_both_are_right():
    right = [True, True, True, False, True]
    assert pairs_right(right, ["a", "a", "b", "b", None]) == 50
    assert math.isnan(pairs_right([True], [None]))
