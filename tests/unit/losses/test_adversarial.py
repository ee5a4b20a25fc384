"""Adversarial losses, by hand."""

import pytest
import torch

from muomni.losses.adversarial import discriminator_loss, feature_loss, generator_loss
from muomni.models.outputs import DiscriminatorOutput


def judgement(*scores, features=()):
    return DiscriminatorOutput(
        scores=torch.tensor(scores), features=[torch.tensor(f, requires_grad=True) for f in features]
    )


def test_hinge():
    recorded, made = [judgement(2.0, 0.5), judgement(0.0)], [judgement(-3.0, 0.0), judgement(1.0)]
    # first: (0 + .5) / 2 + (0 + 1) / 2 = .75; second: 1 + 2 = 3
    assert float(discriminator_loss(recorded, made)) == pytest.approx((0.75 + 3.0) / 2)
    # first: (4 + 1) / 2; second: 0
    assert float(generator_loss(made)) == pytest.approx(2.5 / 2)


def test_nothing_told_apart_is_two():
    assert float(discriminator_loss([judgement(0.0)], [judgement(0.0)])) == 2.0


def test_features_are_compared_relatively_and_recorded_ones_are_constants():
    recorded = [judgement(0.0, features=([2.0, -2.0], [10.0]))]
    made = [judgement(0.0, features=([1.0, -2.0], [5.0]))]
    loss = feature_loss(recorded, made)
    assert float(loss.detach()) == pytest.approx((0.5 / 2.0 + 5.0 / 10.0) / 2)
    loss.backward()
    assert recorded[0].features[0].grad is None and made[0].features[0].grad is not None
