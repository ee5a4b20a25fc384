"""Masked cross-entropy over a vocabulary.

Legend: B batch, T time, V vocabulary.
"""

import torch.nn.functional as F
from torch import Tensor

#: Targets with this value take no part (torch's own default).
IGNORE = -100


def masked_cross_entropy(logits: Tensor, targets: Tensor, *, z_loss: float = 0.0) -> Tensor:
    """Mean nats over the targets that are not IGNORE; logits (..., V) of any dtype, targets (...) long. A scalar.

    Targets are already shifted: `targets[t]` is what `logits[t]` shall predict. With no target at all the result is 0
    (and has a gradient of zeros), not NaN. z_loss: weight of the squared log-partition (Chowdhery et al. 2022,
    arXiv:2204.02311, 5), which keeps logits from drifting.
    """
    keep = targets != IGNORE
    count = keep.sum().clamp(min=1)
    flat = logits.flatten(0, -2).float()
    loss = F.cross_entropy(flat, targets.flatten(), ignore_index=IGNORE, reduction="sum") / count
    if z_loss:
        partition = flat.logsumexp(dim=-1) * keep.flatten()
        loss = loss + z_loss * partition.square().sum() / count
    return loss


def token_nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Nats of each target by itself, zeros where it is IGNORE: logits (B, T, V), targets (B, T) -> (B, T) float32."""
    return F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction="none").view(targets.shape)
