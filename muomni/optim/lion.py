"""Lion: the sign of an interpolated momentum (Chen et al. 2023, arXiv:2302.06675, algorithm 2).

Every entry of a sign is 1 or -1, where AdamW's updates have a root mean square of 0.2 to 0.4. So the sign is scaled by 0.2, as
Muon's update is: AdamW's learning rates fit, and the decay of a step is `lr x weight_decay` as everywhere. In the paper's
terms that is a fifth of AdamW's rate with five times its decay.

Not pytorch_optimizer's: 20 lines are less than a dependency with a hundred other optimizers, and these take sharded weights.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from muomni.optim.by_group import ByGroup

SCALE = 0.2


def own(tensor: Any) -> Tensor:
    """The shard of this process; the tensor itself where it is whole."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class Lion(ByGroup):
    """Every entry for itself: shards of a weight need no other."""

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    def _step_groups(self) -> None:
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            for parameter in parameters:
                if "momentum" not in self.state[parameter]:
                    self.state[parameter]["momentum"] = torch.zeros_like(parameter)
            weights = [own(parameter) for parameter in parameters]
            gradients: list[Any] = [own(parameter.grad) for parameter in parameters]
            momenta = [own(self.state[parameter]["momentum"]) for parameter in parameters]
            signs = torch._foreach_lerp(momenta, gradients, 1 - group["betas"][0])
            torch._foreach_sign_(signs)
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(weights, signs, alpha=-group["lr"] * SCALE)
            torch._foreach_lerp_(momenta, gradients, 1 - group["betas"][1])
