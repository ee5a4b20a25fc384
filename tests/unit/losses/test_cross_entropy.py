"""Masked cross-entropy."""

import math

import pytest
import torch

from muomni.losses.cross_entropy import (
    IGNORE,
    answer_weights,
    masked_cross_entropy,
    token_nats,
    weighted_cross_entropy,
)


def test_mean_over_what_is_kept():
    logits = torch.zeros(1, 3, 4)
    logits[0, 0, 2] = 100.0
    targets = torch.tensor([[2, 1, IGNORE]])
    assert masked_cross_entropy(logits, targets).item() == pytest.approx(math.log(4) / 2)


def test_nothing_to_predict_is_zero_with_a_gradient():
    logits = torch.randn(2, 3, 5, requires_grad=True)
    loss = masked_cross_entropy(logits, torch.full((2, 3), IGNORE))
    loss.backward()
    assert loss.item() == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


def test_z_loss_charges_large_partitions_of_kept_tokens_only():
    logits = torch.zeros(1, 2, 4)
    targets = torch.tensor([[0, IGNORE]])
    plain = masked_cross_entropy(logits, targets)
    charged = masked_cross_entropy(logits, targets, z_loss=0.1)
    assert (charged - plain).item() == pytest.approx(0.1 * math.log(4) ** 2, rel=1e-5)


def test_token_nats_sum_to_the_mean():
    logits, targets = torch.randn(2, 4, 7), torch.randint(0, 7, (2, 4))
    targets[0, 1] = IGNORE
    nats = token_nats(logits, targets)
    assert nats[0, 1] == 0
    assert torch.allclose(nats.sum() / 7, masked_cross_entropy(logits, targets))


def test_answers_weigh_by_their_lengths():
    targets = torch.tensor([[IGNORE, 5, 5, 5, 5, IGNORE, 7, IGNORE], [3, IGNORE, IGNORE, IGNORE, IGNORE, IGNORE, 2, 2]])
    half = 0.5**0.5
    assert torch.allclose(
        answer_weights(targets, exponent=0.5),
        torch.tensor([[0, 0.5, 0.5, 0.5, 0.5, 0, 1, 0], [1, 0, 0, 0, 0, 0, half, half]]),
    )
    assert torch.equal(answer_weights(targets, exponent=0), (targets != IGNORE).float())
    assert answer_weights(targets, exponent=1).sum() == 4, "each answer once"


def test_weighted_mean_by_hand():
    logits = torch.zeros(1, 3, 4)
    logits[0, 0, 2] = 100.0
    targets = torch.tensor([[2, 1, IGNORE]])
    loss = weighted_cross_entropy(logits, targets, torch.tensor([[3.0, 1.0, 9.0]]))
    assert loss.item() == pytest.approx(math.log(4) / 4)
    same = weighted_cross_entropy(logits, targets, torch.full((1, 3), 2.0))
    assert same.item() == pytest.approx(masked_cross_entropy(logits, targets).item())
    assert weighted_cross_entropy(logits, torch.full((1, 3), IGNORE), torch.ones(1, 3)).item() == 0


def test_smoothed_labels_are_torchs_own_and_none_change_nothing():
    logits, targets = torch.randn(2, 3, 5), torch.tensor([[2, 1, IGNORE], [0, IGNORE, 4]])
    plain = masked_cross_entropy(logits, targets)
    assert torch.equal(masked_cross_entropy(logits, targets, label_smoothing=0.0), plain)
    smooth = masked_cross_entropy(logits, targets, label_smoothing=0.2)
    kept = targets != IGNORE
    uniform = -logits.log_softmax(-1).mean(-1)[kept].mean()
    torch.testing.assert_close(smooth, 0.8 * plain + 0.2 * uniform)
    weights = torch.ones(targets.shape)
    torch.testing.assert_close(weighted_cross_entropy(logits, targets, weights, label_smoothing=0.2), smooth)
