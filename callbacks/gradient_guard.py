"""Refuses a step whose gradients are broken or huge: after float16's unscaling, before the clipping (`step_guard.py`).

The norm that it measures is the one that clipping needs: the stage clips with it instead of measuring it again.
"""

import math

import torch
from lightning import LightningModule
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from callbacks.step_guard import StepGuard


class GradientGuard(StepGuard):
    """The norm of all gradients of the optimizer must be finite and at most `max_norm`.

    Under DDP the gradients are averaged over the ranks by then; a model that is sharded over them (FSDP2) gives the norm of
    the whole.

    Args:
        max_norm: largest norm, before clipping. patience: see `StepGuard`.
    """

    def __init__(self, *, max_norm: float, patience: int) -> None:
        super().__init__(patience=patience)
        if not max_norm > 0:
            raise ValueError(f"max_norm={max_norm}: above 0")
        self.max_norm = max_norm

    def statistic(self, pl_module: LightningModule, optimizer: Optimizer) -> Tensor:
        """The norm."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not gradients:
            return torch.zeros((), device=pl_module.device)
        norm = torch.nn.utils.get_total_norm(gradients)
        pl_module.gradient_norm = norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        return norm

    def reason(self, own: float, worst: float) -> str | None:
        """A norm that is too large, or none at all."""
        if worst <= self.max_norm:
            return None
        size = f"{worst:.3g}" if math.isfinite(worst) else "NaN or Inf"
        return f"gradient norm {size} (limit {self.max_norm:g})"
