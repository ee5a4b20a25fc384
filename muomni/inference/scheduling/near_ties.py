"""Choices that rounding could decide: where the two largest logits are within `MARGIN` of each other.

Shapes: n rows, V vocabulary.
"""

import torch
from torch import Tensor

from muomni.inference.decoding.sampling import INVALID_TOKEN, mask_logits

MARGIN = 2.0**-17  # of the largest logit, or of the probabilities' sum: several times the differences that occur


def is_close(logits: Tensor) -> Tensor:
    """logits (n, V) -> (n) bool: True where the two largest are within `MARGIN`."""
    best = logits.topk(2, dim=1).values
    return best[:, 0] - best[:, 1] < MARGIN * best[:, 0].abs().clamp_min(1.0)


def greedy_choices(logits: Tensor) -> Tensor:
    """A model's logits (n, V) -> (n, 2) long: the greedy ids (`INVALID_TOKEN` where they are not finite), and 1 where the
    choice is close. A pure function, which can be compiled."""
    return choose_best(mask_logits(logits, penalty=1.0, seen=None))


def choose_best(masked: Tensor) -> Tensor:
    """`greedy_choices` of what `mask_logits` returned."""
    best, ids = masked.max(dim=1)
    ids = torch.where(best < torch.inf, ids, INVALID_TOKEN)
    return torch.stack((ids, is_close(masked)), dim=1)
