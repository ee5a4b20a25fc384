"""Warm-up, plateau, decay: by hand at every step."""

import pytest
import torch
from torch.optim import SGD

from muomni.optim.schedule import warmup_stable_decay


def rates(**how):
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_stable_decay(optimizer, **how)
    seen = []
    for _ in range(how["max_steps"]):
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
