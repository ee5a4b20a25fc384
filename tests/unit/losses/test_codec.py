"""Losses of codec and Talker: padding counts nowhere."""

import math

import pytest
import torch

from muomni.losses.codec import duration_deviance, duration_loss, masked_l1, masked_l2, talker_losses
from muomni.models.outputs import TalkerOutput


def test_masked_distances():
    mel, rebuilt = torch.zeros(2, 3, 4), torch.full((2, 3, 4), 2.0)
    keep = torch.tensor([[True, True, False], [True, False, False]])
    rebuilt[~keep] = 99.0
    assert masked_l1(rebuilt, mel, keep) == 2.0
    assert masked_l2(rebuilt, mel, keep) == 4.0


def test_talker_losses_of_a_perfect_and_of_a_blind_talker():
    codes, lengths = torch.randint(8, (2, 5, 2)), torch.tensor([5, 3])
    frames = torch.arange(5)[None]
    last = frames == lengths[:, None] - 1
    logits = 50.0 * torch.nn.functional.one_hot(codes, 8).float()
    perfect = TalkerOutput(logits=logits, stop=torch.where(last, 50.0, -50.0))
    perfect.logits[1, 3:] = torch.randn(2, 2, 8)  # behind the end: counts nowhere
    perfect.stop[1, 3:] = 50.0
    assert all(loss < 1e-4 for loss in talker_losses(perfect, codes, lengths).values())
    blind = talker_losses(TalkerOutput(logits=torch.zeros(2, 5, 2, 8), stop=torch.zeros(2, 5)), codes, lengths)
    assert set(blind) == {"codebook_0", "codebook_1", "stop"}
    assert math.isclose(blind["codebook_1"], math.log(8), rel_tol=1e-5)
    assert math.isclose(blind["stop"], math.log(2) * 8 / 2, rel_tol=1e-5)


def test_the_deviance_of_durations_is_zero_for_the_truth_alone():
    """By hand: 2 predicted for 1 costs 1 - log 2; e for 0 costs e; padding costs nothing."""
    ends, lengths = torch.tensor([[1.0, 1.0, 4.0], [2.0, 3.0, 9.0]]), torch.tensor([3, 2])
    true = torch.tensor([[1.0, 1e-9, 3.0], [2.0, 1.0, 50.0]])
    assert float(duration_deviance(true, ends, lengths)) == pytest.approx(0, abs=1e-6)
    wrong = torch.tensor([[2.0, math.e, 3.0], [2.0, 1.0, 50.0]])
    expected = (1 - math.log(2) + math.e) / 5
    assert float(duration_deviance(wrong, ends, lengths)) == pytest.approx(expected, abs=1e-5)


def test_durations_are_learned_whose_sum_is_that_of_the_clips():
    """Where they cannot be told apart: the mean, not less. A distance of logs would learn 1.4."""
    log = torch.zeros(1, 1, requires_grad=True)
    ends = torch.tensor([[0.5], [0.5], [2.0], [9.0]])
    descent = torch.optim.SGD([log], lr=0.1)
    for _ in range(200):
        descent.zero_grad()
        duration_deviance(log.exp().expand(4, 1), ends, torch.ones(4)).backward()
        descent.step()
    assert float(log.exp()) == pytest.approx(3.0, rel=1e-3)


def test_duration_loss_compares_steps_and_leaves_padding_out():
    places = torch.tensor([[1.0, 3.0, 4.0], [2.0, 2.5, 99.0]])
    steps = torch.tensor([[1.0, 2.0, 2.0], [2.0, 1.0, 0.0]])
    torch.testing.assert_close(duration_loss(steps, places, torch.tensor([3, 2])), torch.tensor((1.0 + 0.5) / 5))
