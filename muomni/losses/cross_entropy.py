"""Masked cross-entropy over a vocabulary.

Legend: B batch, T time, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from muomni.distributed import collectives

#: Targets with this value take no part (torch's own default).
IGNORE = -100


def masked_cross_entropy(
    logits: Tensor, targets: Tensor, *, z_loss: float = 0.0, label_smoothing: float = 0.0
) -> Tensor:
    """Mean nats over the targets that are not IGNORE; logits (..., V) of any dtype, targets (...) long. A scalar.

    Targets are already shifted: `logits[t]` predicts `targets[t]`. With no target at all the result is 0
    (and has a gradient of zeros), not NaN. z_loss: weight of the squared log-partition (Chowdhery et al. 2022,
    arXiv:2204.02311, 5), which keeps logits from drifting. label_smoothing: share of each target that is spread evenly over
    the vocabulary (Szegedy et al. 2016, arXiv:1512.00567, 7).
    """
    keep = targets != IGNORE
    flat = logits.flatten(0, -2).float()
    total = F.cross_entropy(
        flat, targets.flatten(), ignore_index=IGNORE, reduction="sum", label_smoothing=label_smoothing
    )
    if z_loss:
        partition = flat.logsumexp(dim=-1) * keep.flatten()
        total = total + z_loss * partition.square().sum()
    return collectives.mean(total, keep.sum())


def token_nats(logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Nats of each target by itself, zeros where it is IGNORE: logits (B, T, V), targets (B, T) -> (B, T) float32."""
    flat = logits.flatten(0, -2).float()
    nats = F.cross_entropy(flat, targets.flatten(), reduction="none", label_smoothing=label_smoothing)
    return nats.view(targets.shape)


def answer_weights(targets: Tensor, *, exponent: float) -> Tensor:
    """A weight for each target (B, T): the length of its answer, a run of targets without IGNORE, to the power -`exponent`;
    0 where IGNORE stands. float32.

    0 counts tokens alike, so that one description outweighs ten one-word answers; 1 counts answers alike; 0.5 is
    between (square averaging, Chen et al. 2024, InternVL 2.5, arXiv:2412.05271).
    """
    learnt = targets != IGNORE
    starts = learnt & ~F.pad(learnt[:, :-1], (1, 0))
    number = starts.flatten().cumsum(0) * learnt.flatten()
    lengths = torch.zeros(targets.numel() + 1, device=targets.device)
    lengths.scatter_add_(0, number, torch.ones(targets.numel(), device=targets.device))
    return (lengths[number] ** -exponent * learnt.flatten()).view(targets.shape)


def weighted_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean nats of the targets that are not IGNORE, weighted by `weights` of their shape; 0 where all weights are. Shapes and
    label_smoothing as in `masked_cross_entropy`."""
    weights = weights * (targets != IGNORE)
    total = (token_nats(logits, targets, label_smoothing=label_smoothing) * weights).sum()
    return collectives.mean(total, weights.sum(), least=torch.finfo(torch.float32).tiny)
