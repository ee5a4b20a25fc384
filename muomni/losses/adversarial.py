"""Adversarial losses of sound: hinge (Lim and Ye 2017, arXiv:1705.02894) and feature matching (Larsen et al. 2016,
arXiv:1512.09300). Each is the mean over discriminators, so that their number does not weigh.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from muomni.distributed import collectives
from muomni.models.outputs import DiscriminatorOutput


def discriminator_loss(real: list[DiscriminatorOutput], fake: list[DiscriminatorOutput]) -> Tensor:
    """Hinge loss: real scores > 1, fake scores < -1. It is 2 for constant scores of 0."""
    losses = [F.relu(1 - a.scores).mean() + F.relu(1 + b.scores).mean() for a, b in zip(real, fake, strict=True)]
    return torch.stack(losses).mean()


def generator_loss(fake: list[DiscriminatorOutput]) -> Tensor:
    """Mean of relu(1 - score) of generated audio: nothing is gained beyond the score of real audio."""
    return torch.stack([F.relu(1 - each.scores).mean() for each in fake]).mean()


def feature_loss(real: list[DiscriminatorOutput], fake: list[DiscriminatorOutput]) -> Tensor:
    """Mean absolute difference of the layers' outputs, relative to the mean magnitude of the real ones, which are constants
    here."""
    losses = []
    for a, b in zip(real, fake, strict=True):
        for wanted, got in zip(a.features, b.features, strict=True):
            wanted = wanted.detach()
            size = collectives.all_reduce_sum(wanted.abs().mean()) / collectives.world_size()
            losses.append((got - wanted).abs().mean() / size.clamp_min(1e-6))
    return torch.stack(losses).mean()
