"""Very large epochs: no array of all samples, and the same promises as of small ones."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules import batch_sampler
from datamodules.batch_sampler import ResumableBatchSampler
from datamodules.keyed_permutation import KeyedPermutation


@given(size=st.integers(1, 3000), key=st.tuples(st.integers(0, 9), st.integers(0, 9)))
@settings(max_examples=20, deadline=None)
def test_a_keyed_permutation_has_every_number_once(size, key):
    whole = KeyedPermutation(size, key)[:]
    assert sorted(whole.tolist()) == list(range(size))
    assert (KeyedPermutation(size, key)[size // 3 : size // 2] == whole[size // 3 : size // 2]).all()


def test_a_keyed_permutation_shuffles():
    """Neighbours come apart, another key is another order, and any place of ten million is there at once."""
    size = 10_000_000
    order = KeyedPermutation(size, (0, 1))
    some = order[size // 2 : size // 2 + 100_000]
    assert abs(np.corrcoef(np.arange(len(some)), some)[0, 1]) < 0.02
    assert abs(np.corrcoef(some[:-1], some[1:])[0, 1]) < 0.02
    assert np.histogram(some, bins=10, range=(0, size))[0].std() < 400  # of 10000 each; 95 for a fair draw
    assert (some != KeyedPermutation(size, (0, 2))[size // 2 : size // 2 + 100_000]).mean() > 0.99


@pytest.fixture(autouse=True)
def _all_are_large(monkeypatch):
    monkeypatch.setattr(batch_sampler, "LARGE", 1)


HOW = st.fixed_dictionaries(
    {"size": st.integers(24, 400), "batch_size": st.sampled_from([12, 24]), "seed": st.integers(0, 5)},
    optional={"bucket": st.integers(1, 6), "lengths": st.integers(1, 30), "budget": st.integers(400, 900)},
)


def make(how, **process):
    how = dict(how)
    if "budget" in how:
        how.setdefault("lengths", 9)
    if "lengths" in how:
        how["lengths"] = np.random.default_rng(how["lengths"]).integers(1, how["lengths"] + 1, how["size"])
    return ResumableBatchSampler(how.pop("size"), **how, **process)


def epoch_of(sampler):
    batches = list(sampler)
    for _ in batches:
        sampler.count_batch()
    return batches


@given(how=HOW, world_size=st.sampled_from([1, 2, 3, 4]))
@settings(max_examples=25, deadline=None)
def test_every_sample_is_read_once_an_epoch_by_any_number_of_processes(how, world_size):
    alone = make(how)
    ranks = [make(how, rank=rank, world_size=world_size) for rank in range(world_size)]
    for epoch in range(2):
        whole = epoch_of(alone) if "budget" not in how or world_size == 1 else None
        shares = [epoch_of(rank) for rank in ranks]
        assert len({len(share) for share in shares}) == 1 and len(shares[0]) > 0
        drawn = [draw.index for share in shares for batch in share for draw in batch]
        assert len(drawn) == len(set(drawn))
        left = how["size"] - len(drawn)
        if "budget" in how:  # of each bucket less than one for each process
            assert left <= (world_size - 1) * -(-how["size"] // (how["batch_size"] * how.get("bucket", 50)))
        else:
            assert left == how["size"] % how["batch_size"]
            for together, batch in zip(zip(*shares, strict=True), whole, strict=True):
                assert sorted(itertools.chain(*together), key=str) == sorted(batch, key=str)
        assert {rank.epoch for rank in ranks} == {epoch + 1}


@given(how=HOW, stop=st.integers(0, 60))
@settings(max_examples=20, deadline=None)
def test_resumed_at_any_position_equals_uninterrupted(how, stop):
    first, whole = make(how), make(how)
    every = [draws for _ in range(2) for draws in epoch_of(whole)]
    stop = min(stop, len(every) - 1)
    for _ in range(stop):
        first.count_batch()
    second = make(how)
    second.load_state_dict(first.state_dict())
    rest = epoch_of(second) + epoch_of(second)
    assert rest[: len(every) - stop] == every[stop:]


def test_batches_are_of_like_length_and_within_their_budget():
    lengths = np.random.default_rng(0).integers(1, 100, 4000)
    bucketed = ResumableBatchSampler(4000, batch_size=16, seed=1, lengths=lengths)
    assert np.mean([np.ptp(lengths[[draw.index for draw in batch]]) for batch in bucketed]) < 5
    budgeted = ResumableBatchSampler(4000, batch_size=16, seed=1, lengths=lengths, budget=600)
    for batch in budgeted:
        assert len(batch) * max(lengths[draw.index] for draw in batch) <= 600 and len(batch) <= 16
    assert len(budgeted) == len(list(budgeted))
    padding = sum(len(b) * max(lengths[d.index] for d in b) for b in budgeted) / lengths.sum() - 1
    assert padding < 0.05


def test_the_first_batches_again_and_again():
    sampler = ResumableBatchSampler(400, batch_size=4, seed=0)
    sampler.repeat(3)
    assert len(sampler) == 3 and epoch_of(sampler) == epoch_of(sampler)


def test_ten_million_samples_are_entered_in_the_middle_at_once(monkeypatch):
    """No more numbers are computed than of a bucket."""
    computed = []
    real = KeyedPermutation._permuted
    monkeypatch.setattr(KeyedPermutation, "_permuted", lambda self, n: computed.append(len(n)) or real(self, n))
    sampler = ResumableBatchSampler(10_000_000, batch_size=32, seed=0, lengths=np.ones(10_000_000, dtype=np.int8))
    sampler.load_state_dict({"epoch": 7, "consumed": 5_000_000 // 32 * 32})
    assert len(next(iter(sampler))) == 32
    assert sum(computed) < 2 * 32 * sampler.bucket
