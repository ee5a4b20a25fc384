"""Shares of several sets are exact in every window of steps; positions are those of a run that was not stopped."""

from fractions import Fraction

import numpy as np
import pytest

from datamodules.mixture_sampler import MixtureSampler, assignment, exact_shares

SIZES = [40, 300, 25]
WEIGHTS = {"a": 0.5, "b": 0.3, "c": 0.2}


def sampler(batch_size=8, **options):
    shares = list(exact_shares(WEIGHTS).values())
    return MixtureSampler(sum(SIZES), sizes=SIZES, shares=shares, batch_size=batch_size, seed=1, **options)


def set_of(indices):
    return np.searchsorted(np.cumsum(SIZES), np.asarray(indices), side="right")


def steps(made, count):
    """The batches of so many steps, over the ends of epochs."""
    found = []
    while len(found) < count:
        for batch in made:
            found.append(batch)
            made.count_batch()
            if len(found) == count or made.consumed == 0:
                break
    return found


def worst(batches, share):
    """How far a set's count in any window of steps is from its share, in samples."""
    counts = np.array([[np.sum(set_of([each.index for each in batch]) == k) for k in range(3)] for batch in batches])
    sizes = np.array([len(batch) for batch in batches])
    over = np.cumsum(np.concatenate([np.zeros((1, 3)), counts - sizes[:, None] * share]), axis=0)
    return (over.max(axis=0) - over.min(axis=0)).max()


@pytest.mark.parametrize(
    "weights",
    [
        {"a": 0.7, "b": 0.3},
        {"a": 1, "b": 1, "c": 1},
        {"a": 0.01, "b": 0.5, "c": 0.3, "d": 0.19},
        {"a": 3.14159, "b": 1.41421},
    ],
)
def test_no_set_is_ever_a_whole_sample_from_its_share(weights):
    shares = list(exact_shares(weights).values())
    assert sum(shares) == 1
    order = np.tile(assignment(shares), 2)
    counts = np.cumsum(order[:, None] == np.arange(len(shares)), axis=0)
    exact = np.arange(1, len(order) + 1)[:, None] * np.array([float(each) for each in shares])
    assert np.abs(counts - exact).max() < 1
    assert [Fraction(int(each), len(order)) for each in counts[-1]] == shares, "exact after a period"


@pytest.mark.parametrize("weights", [{"a": 0, "b": 1}, {"a": -1, "b": 1}, {"a": "x"}, {"a": float("nan")}, {"a": True}])
def test_weights_are_numbers_above_zero(weights):
    with pytest.raises(ValueError, match="data.mixture.a="):
        exact_shares(weights)


def test_a_weight_that_is_too_small_to_be_drawn_so_is_said(caplog):
    shares = exact_shares({"a": 1, "b": 1e-9})
    assert shares["b"] == Fraction(1, 10001)
    line = "data.mixture.b=1e-09, 1e-09 of all, is drawn as 0.0001, the smallest share: leave the set out"
    assert line in caplog.text
    caplog.clear()
    exact_shares({"a": 3.14159, "b": 0.01})
    assert not caplog.text


@pytest.mark.parametrize("lengths", [None, "lengths"])
def test_shares_are_exact_in_every_window_of_steps(lengths):
    lengths = None if lengths is None else np.random.default_rng(0).integers(10, 400, sum(SIZES))
    batches = steps(sampler(lengths=lengths), 200)
    assert worst(batches, np.array(list(WEIGHTS.values()))) < 2


def test_with_a_budget_every_batch_has_its_shares():
    lengths = np.random.default_rng(0).integers(10, 400, sum(SIZES))
    made = sampler(lengths=lengths, budget=1600)
    batches = steps(made, 100)
    for batch in batches:
        indices = [each.index for each in batch]
        assert lengths[indices].max() * len(indices) <= 1600
    assert worst(batches, np.array(list(WEIGHTS.values()))) < 8, "carried over from batch to batch"


def test_buckets_have_less_padding():
    lengths = np.random.default_rng(0).integers(10, 400, sum(SIZES))

    def padding(made):
        batches = [lengths[[each.index for each in batch]] for batch in steps(made, 40)]
        return 1 - sum(each.sum() for each in batches) / sum(each.max() * len(each) for each in batches)

    assert padding(sampler(lengths=lengths)) < 0.4 * padding(sampler())


@pytest.mark.parametrize("options", [{}, {"budget": 1600}])
def test_within_buckets_batches_are_of_one_length_and_buckets_have_the_shares(options):
    lengths = np.repeat([40, 200, 100], SIZES)  # of a set each its own
    made = sampler(lengths=lengths, bucket=5, within="bucket", **options)
    assert len(made.batches(0)[0]) > 5
    mixed, drawn = 0, np.zeros(3)
    for batch in steps(made, 400):
        sets = set_of([each.index for each in batch])
        mixed += len(set(sets)) > 1
        drawn += np.bincount(sets, minlength=3)
    assert mixed <= 2 * 400 / 5 + 20, "two borders a bucket at most, and one an epoch"
    assert np.abs(drawn / drawn.sum() - list(WEIGHTS.values())).max() < 0.01


def test_a_set_is_drawn_whole_before_it_is_drawn_again():
    drawn = [each for batch in steps(sampler(), 200) for each in batch]
    small = [(each.index, each.epoch) for each in drawn if each.index < SIZES[0]]
    for epoch in range(len(small) // SIZES[0]):
        part = small[epoch * SIZES[0] : (epoch + 1) * SIZES[0]]
        assert sorted(part) == [(index, epoch) for index in range(SIZES[0])]
    assert len(set(small)) == len(small)


def test_neighbours_stay_together():
    groups = [[index, index + 1] for index in range(0, 300, 2)] + [[index] for index in range(300, 365)]
    groups = [group for group in groups if set_of(group)[0] == set_of(group)[-1]]
    drawn = [each.index for batch in steps(sampler(groups=groups), 20) for each in batch]
    first = [index for index in drawn if index < SIZES[0]][: SIZES[0]]
    assert all({a, b} == {min(a, b), min(a, b) + 1} for a, b in zip(first[::2], first[1::2], strict=True))


@pytest.mark.parametrize(
    "options",
    [{}, {"lengths": True}, {"lengths": True, "budget": 1600}, {"lengths": True, "budget": 1600, "within": "bucket"}],
)
def test_a_resumed_run_goes_on_where_it_was(options):
    if options.get("lengths"):
        options = options | {"lengths": np.random.default_rng(0).integers(10, 400, sum(SIZES))}
    whole = steps(sampler(**options), 150)
    first = sampler(**options)
    steps(first, 61)
    again = sampler(**options)
    again.load_state_dict(first.state_dict())
    assert steps(again, 89) == whole[61:]


def test_processes_share_each_batch():
    whole = steps(sampler(), 60)
    ranks = [steps(sampler(rank=rank, world_size=2), 60) for rank in range(2)]
    for batch, *shares in zip(whole, *ranks, strict=True):
        assert [batch[0::2], batch[1::2]] == shares


def test_a_curriculum_is_refused():
    with pytest.raises(ValueError, match="leave it null with data.mixture"):
        sampler(curriculum=np.zeros(365, dtype=bool))
