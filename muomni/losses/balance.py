"""The load-balance loss of a mixture of experts.

Legend: B batch, T time, E experts, K experts a token.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from muomni.distributed import collectives


def balance_loss(router_logits: Sequence[Tensor], *, keep: Tensor, per_token: int) -> Tensor:
    """E x sum over experts of (share of the choices) x (mean probability), mean over layers: 1 where all experts are used
    alike, E where all tokens go to one (Fedus et al. 2021, arXiv:2101.03961, equation 4, K choices a token). A scalar.

    router_logits: (B, T, E) of each layer. keep: (B, T) bool, True for real tokens: padding does not count.
    """
    weight = keep[..., None].float()
    count = weight.sum()
    everyone = collectives.all_reduce_sum(count).clamp(min=1)
    losses = []
    for logits in router_logits:
        chosen = torch.zeros_like(logits).scatter(-1, logits.topk(per_token).indices, 1.0)
        share = collectives.all_reduce_sum((chosen * weight).sum(dim=(0, 1))) / (everyone * per_token)
        probability = collectives.mean((logits.softmax(dim=-1) * weight).sum(dim=(0, 1)), count)
        losses.append(logits.shape[-1] * (share * probability).sum())
    return torch.stack(losses).mean()
