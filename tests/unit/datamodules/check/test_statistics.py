"""Streaming statistics compared with exact ones."""

from collections import Counter

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datamodules.check.distribution import Distribution
from datamodules.check.fingerprints import Fingerprints, fingerprint

VALUES = st.lists(st.one_of(st.integers(0, 90), st.floats(0, 1e7, allow_subnormal=False)), min_size=1, max_size=200)


def filled(values):
    distribution = Distribution()
    for value in values:
        distribution.add(value)
    return distribution


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_bars_count_every_value_once(values):
    distribution = filled(values)
    bars = distribution.bars()
    assert sum(count for *_, count in bars) == len(values) == distribution.count
    assert all(low < high for low, high, _ in bars)
    assert bars[-1][1] >= max(values)
    assert all(first[1] == second[0] for first, second in zip(bars, bars[1:], strict=False))
    assert len(bars) <= 20


@settings(max_examples=60, deadline=None)
@given(VALUES, st.floats(0.01, 1))
@example([0, 45.375], 1.0)  # at the edge of the bin that holds 45
def test_quantiles_are_right_within_a_bin(values, share):
    exact = np.quantile(values, share, method="inverted_cdf")
    assert abs(filled(values).quantile(share) - exact) <= 0.006 * exact + 1e-12


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 90), min_size=1, max_size=200), st.integers(0, 90))
def test_small_whole_numbers_are_exact(values, limit):
    distribution = filled(values)
    assert distribution.above(limit) == sum(value > limit for value in values)
    assert distribution.quantile(0.5) == np.quantile(values, 0.5, method="inverted_cdf")
    for low, high, count in distribution.bars()[:-1]:
        assert count == sum(low <= value < high for value in values)


def test_memory_does_not_grow_with_the_values():
    distribution = filled(np.random.default_rng(0).uniform(0.1, 30, 20_000).tolist())
    assert len(distribution.bins) < 600


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), max_size=60), st.lists(st.sampled_from("efghijk"), max_size=60))
def test_duplicates_are_those_that_a_counter_finds(ours, theirs):
    tables = []
    for items in (ours, theirs):
        tables.append(Fingerprints())
        for number, item in enumerate(items, start=1):
            tables[-1].add(fingerprint(item), number)
    count, pairs = tables[0].repeated(100)
    assert count == sum(each - 1 for each in Counter(ours).values()) == len(pairs)
    assert all(
        ours[later - 1] == ours[first - 1] and ours.index(ours[later - 1]) == first - 1 for later, first in pairs
    )
    count, pairs = tables[0].shared(tables[1], 100)
    assert count == sum(item in theirs for item in ours)
    assert all(ours[here - 1] == theirs[there - 1] for here, there in pairs)
