"""Adversarial losses of sound: hinge (Lim and Ye 2017, arXiv:1705.02894) and feature matching (Larsen et al. 2016,
arXiv:1512.09300). Each is the mean over discriminators, so that their number does not weigh.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from muomni.distributed import collectives
from muomni.models.outputs import Judgement


def discriminator_loss(recorded: list[Judgement], made: list[Judgement]) -> Tensor:
    """Hinge: scores of recorded sounds shall be over 1, of made ones under -1. 2 where nothing is told apart."""
    losses = [
        F.relu(1 - real.scores).mean() + F.relu(1 + fake.scores).mean()
        for real, fake in zip(recorded, made, strict=True)
    ]
    return torch.stack(losses).mean()


def generator_loss(made: list[Judgement]) -> Tensor:
    """Minus the mean score of made sounds, as far as they are not taken for recorded ones yet: relu(1 - score)."""
    return torch.stack([F.relu(1 - fake.scores).mean() for fake in made]).mean()


def feature_loss(recorded: list[Judgement], made: list[Judgement]) -> Tensor:
    """Mean absolute difference of the layers' outputs, relative to the mean size of those of the recorded sounds, which
    are constants here."""
    losses = []
    for real, fake in zip(recorded, made, strict=True):
        for wanted, got in zip(real.features, fake.features, strict=True):
            wanted = wanted.detach()
            size = collectives.all_reduce_sum(wanted.abs().mean()) / collectives.world_size()
            losses.append((got - wanted).abs().mean() / size.clamp_min(1e-6))
    return torch.stack(losses).mean()
