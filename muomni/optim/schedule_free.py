"""Schedule-free AdamW (Defazio et al. 2024, arXiv:2405.15682): gradients are taken at y = (1 - beta1) z + beta1 x, where z
takes the steps and x is the mean of all z; x is what is validated and exported. Needs no decay: schedule=constant.

The model holds y, which training continues from, and so do checkpoints; z is state. `averages` returns x of every
parameter; callbacks/averaged_optimizer.py puts it into the model where it is needed and y back bit for bit.

Not the package schedulefree: its `eval()` and `train()` turn y into x and back by rounded arithmetic, so that a run that
validates differs from one that does not, it divides the gradients in place, which callbacks read after the step, and it keeps
its numbers of steps in the groups, which a resumed run takes from its own command (stages/resume.py).
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from muomni.optim.by_group import ByGroup


class ScheduleFreeAdamW(ByGroup):
    """A mean weighs each z by the square of the largest rate so far, so that a warm-up counts little, as in the authors'
    code; the decay is that of y."""

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float) -> None:
        if betas[0] <= 0:
            raise ValueError(f"optim.betas={list(betas)}: schedule-free needs a first one above 0")
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    def _step_groups(self) -> None:
        for group in self.param_groups:
            together: dict[tuple[int, float, float], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self._state_of(parameter)
                    together[(state["step"], state["weight_sum"], state["largest_lr"])].append(parameter)
            for counts, parameters in together.items():
                self._update(parameters, group, *counts)

    def _state_of(self, parameter: Tensor) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            if isinstance(parameter, DTensor):
                raise ValueError("optim=schedule_free is not made for weights that trainer=fsdp2 shards: trainer=ddp")
            state |= {"z": parameter.clone(), "exp_avg_sq": torch.zeros_like(parameter)}
            state |= {"step": 0, "weight_sum": 0.0, "largest_lr": 0.0}
        return state

    def _update(
        self, parameters: list[Tensor], group: dict[str, Any], step: int, weight_sum: float, largest_lr: float
    ) -> None:
        """A step of parameters that have taken as many."""
        (beta1, beta2), rate = group["betas"], group["lr"]
        largest_lr = max(rate, largest_lr)
        weight_sum += largest_lr**2
        share = largest_lr**2 / weight_sum if weight_sum else 0.0
        states = [self.state[parameter] for parameter in parameters]
        for state in states:
            state |= {"step": step + 1, "weight_sum": weight_sum, "largest_lr": largest_lr}
        gradients: list[Any] = [parameter.grad for parameter in parameters]
        z, squares = [state["z"] for state in states], [state["exp_avg_sq"] for state in states]
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        scales = torch._foreach_div(squares, 1 - beta2 ** (step + 1))
        torch._foreach_sqrt_(scales)
        torch._foreach_add_(scales, group["eps"])
        updates = torch._foreach_div(gradients, scales)
        if group["weight_decay"]:
            torch._foreach_add_(updates, parameters, alpha=group["weight_decay"])
        torch._foreach_lerp_(parameters, z, share)
        torch._foreach_add_(parameters, updates, alpha=rate * (beta1 * (1 - share) - 1))
        torch._foreach_sub_(z, updates, alpha=rate)

    @torch.no_grad()
    def averages(self) -> list[tuple[Tensor, Tensor]]:
        """(parameter, its x) of all that have taken a step."""
        return [
            (parameter, parameter.lerp(self.state[parameter]["z"], 1 - 1 / group["betas"][0]))
            for group in self.param_groups
            for parameter in group["params"]
            if "z" in self.state.get(parameter, {})
        ]
