"""Warm-up, plateau, decay: by hand at every step."""

import pytest
import torch
from torch.optim import SGD

from muomni.optim.schedule import constant, cosine, one_sqrt, warmup_stable_decay


def rates(make=warmup_stable_decay, steps=None, **how):
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = make(optimizer, **how)
    seen = []
    for _ in range(steps or how["max_steps"]):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_by_hand():
    assert rates(max_steps=10, warmup_steps=4, decay_fraction=0.4, final=0.0) == pytest.approx(
        [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 1.5, 1.0, 0.5]
    )


def test_it_ends_at_the_final_share():
    seen = rates(max_steps=1000, warmup_steps=1, decay_fraction=0.5, final=0.25)
    assert seen[0] == 2.0
    assert seen[-1] == pytest.approx(0.5, abs=0.01)


def test_two_steps_with_a_long_warm_up_are_positive():
    """The ci budget: fewer steps than the warm-up has."""
    assert all(rate > 0 for rate in rates(max_steps=2, warmup_steps=50, decay_fraction=0.4, final=0.02))


def test_one_sqrt_by_hand():
    """1 - sqrt of the share of the decay that is done: 0, 1/4, 1/2, 3/4."""
    seen = rates(one_sqrt, max_steps=10, warmup_steps=2, decay_fraction=0.4, final=0.0)
    assert seen == pytest.approx([1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 2 * (1 - 0.5**0.5), 2 * (1 - 0.75**0.5)])
    assert rates(one_sqrt, max_steps=4, warmup_steps=1, decay_fraction=1.0, final=0.5)[1] == pytest.approx(1.5)


def test_cosine_by_hand():
    """From the step with the whole rate (the second) in quarters of half a wave."""
    seen = rates(cosine, max_steps=5, warmup_steps=2, final=0.0)
    assert seen == pytest.approx([1.0, 2.0, 1 + 0.5**0.5, 1.0, 1 - 0.5**0.5])
    ended = rates(cosine, max_steps=1000, warmup_steps=1, final=0.25)
    assert ended[-1] == pytest.approx(0.5, abs=1e-4)


def test_constant_by_hand():
    assert rates(constant, warmup_steps=4, steps=6) == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


@pytest.mark.parametrize("make", [one_sqrt, cosine])
def test_two_steps_with_a_long_warm_up_are_positive_for_all(make):
    decay = {"decay_fraction": 0.4} if make is one_sqrt else {}
    assert all(rate > 0 for rate in rates(make, max_steps=2, warmup_steps=50, final=0.02, **decay))
