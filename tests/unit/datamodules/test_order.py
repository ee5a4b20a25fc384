"""The order of samples: resumed equals uninterrupted, ranks share it, lengths and groups stay together."""

import itertools

import numpy as np
import pytest

from datamodules.order import BatchOrder, Draw


def epochs(order, count):
    """The next `count` batches as training takes them: through iterators of one epoch each."""
    taken = []
    while len(taken) < count:
        for batch in order:
            taken.append(batch)
            order.count_batch()
            if len(taken) == count:
                break
    return taken


def make(size=23, batch_size=4, seed=3, **how):
    return BatchOrder(size, batch_size=batch_size, seed=seed, **how)


@pytest.mark.parametrize(
    "how", [{}, {"lengths": np.arange(23) % 7}, {"groups": [[2 * i, 2 * i + 1] for i in range(11)]}]
)
@pytest.mark.parametrize("stop", [1, 4, 5, 6, 12])
def test_resumed_equals_uninterrupted(how, stop):
    whole = epochs(make(**how), 17)
    first = make(**how)
    begun = epochs(first, stop)
    second = make(**how)
    second.load_state_dict(first.state_dict())
    assert begun + epochs(second, 17 - stop) == whole


def test_prefetched_batches_do_not_count():
    """What a loader drew ahead of training is drawn again after a resume."""
    order = make()
    loader = iter(order)
    drawn = [next(loader) for _ in range(3)]
    order.count_batch()
    assert next(iter(order)) == drawn[1]


def test_an_epoch_is_a_permutation_of_its_own():
    order = make(size=24)
    one, two = (epochs(order, 6) for _ in range(2))
    for number, epoch in enumerate((one, two)):
        assert sorted(draw.index for batch in epoch for draw in batch) == list(range(24))
        assert {draw.epoch for batch in epoch for draw in batch} == {number}
    assert [[d.index for d in b] for b in one] != [[d.index for d in b] for b in two]
    assert epochs(make(seed=4), 5) != epochs(make(seed=3), 5)
    assert epochs(make(), 5) == epochs(make(), 5)


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_partition_every_round(ranks):
    parts = [list(make(size=41, batch_size=3, rank=rank, ranks=ranks)) for rank in range(ranks)]
    assert len({len(part) for part in parts}) == 1
    assert len(parts[0]) == 41 // (3 * ranks)
    seen = [draw.index for part in parts for batch in part for draw in batch]
    assert len(set(seen)) == len(seen) == len(parts[0]) * 3 * ranks
    assert all(len(batch) == 3 for part in parts for batch in part)


def test_samples_of_like_length_share_a_batch():
    lengths = np.random.default_rng(0).integers(1, 1000, 400)
    batches = list(make(size=400, batch_size=8, lengths=lengths))
    spread = [np.ptp(lengths[[draw.index for draw in batch]]) for batch in batches]
    assert np.mean(spread) < 40
    assert sorted(draw.index for batch in batches for draw in batch) == list(range(400))
    first = [lengths[batch[0].index] for batch in batches]
    assert first != sorted(first), "batches are shuffled again after sorting"


@pytest.mark.parametrize("how", [{}, {"rank": 1, "ranks": 2}])
def test_groups_stay_together(how):
    groups = [[i, i + 50] for i in range(50)]
    for batch in make(size=100, batch_size=10, groups=groups, **how):
        indices = [draw.index for draw in batch]
        assert sorted(i % 50 for i in indices) == sorted(2 * [i for i in indices if i < 50])


def test_fewer_samples_than_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"7 training samples are fewer than one batch of 4 x 2 processes"):
        make(size=7, ranks=2)


def test_draws_name_index_and_epoch():
    order = make()
    order.load_state_dict({"epoch": 5, "consumed": 0})
    assert all(isinstance(draw, Draw) and draw.epoch == 5 for draw in itertools.chain(*order))
