"""The balance loss by hand: 1 when even, the number of experts when one gets all, padding without a say."""

import pytest
import torch

from muomni.losses.balance import balance_loss

ALL = torch.ones(1, 4, dtype=torch.bool)


def one_hot(*choices, experts=4, size=50.0):
    return size * torch.nn.functional.one_hot(torch.tensor([choices]), experts).float()


def test_even_use_costs_one_and_one_expert_for_all_costs_their_number():
    assert balance_loss([one_hot(0, 1, 2, 3)], keep=ALL, per_token=1).item() == pytest.approx(1.0)
    assert balance_loss([one_hot(2, 2, 2, 2)], keep=ALL, per_token=1).item() == pytest.approx(4.0)


def test_it_is_the_sum_of_share_times_mean_probability():
    """Equation 4 of Fedus et al. with two choices a token; layers are averaged."""
    torch.manual_seed(0)
    layers = [torch.randn(2, 3, 4), torch.randn(2, 3, 4)]
    by_hand = []
    for logits in layers:
        flat = logits.view(6, 4)
        share = flat.topk(2).indices.flatten().bincount(minlength=4) / 12
        by_hand.append(4 * (share * flat.softmax(-1).mean(0)).sum())
    keep = torch.ones(2, 3, dtype=torch.bool)
    torch.testing.assert_close(balance_loss(layers, keep=keep, per_token=2), sum(by_hand) / 2)


def test_padding_does_not_count():
    keep = torch.tensor([[True, True, True, True, False, False]])
    logits = one_hot(0, 1, 2, 3, 3, 3)
    assert balance_loss([logits], keep=keep, per_token=1).item() == pytest.approx(1.0)
    logits.requires_grad_()
    uneven = torch.cat([logits[:, :3], logits[:, 2:3], logits[:, 4:]], dim=1)
    balance_loss([uneven * 0.01], keep=keep, per_token=1).backward()
    assert logits.grad[0, 4:].abs().sum() == 0 and logits.grad[0, :3].abs().sum() > 0


def test_no_token_at_all_is_no_nan():
    assert balance_loss([one_hot(0, 1)], keep=torch.zeros(1, 2, dtype=torch.bool), per_token=1).item() == 0


def test_its_gradient_makes_the_busiest_expert_less_likely():
    logits = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]], requires_grad=True)
    balance_loss([logits], keep=ALL, per_token=1).backward()
    assert (logits.grad[..., 0] > 0).all() and (logits.grad[..., 1] < 0).all()
