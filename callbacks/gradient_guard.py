"""Skips a step whose gradients are not finite or too large: after float16's unscaling, before clipping (`step_guard.py`).

The stage clips with the norm computed here instead of computing it again.
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

    Under DDP the gradients are averaged over the ranks by then; for a model sharded over them (FSDP2) it is the norm of
    the full gradient.

    Args:
        max_norm: largest norm, before clipping. patience: see `StepGuard`.
    """

    name = "gradient_guard"

    def __init__(self, *, max_norm: float, patience: int) -> None:
        super().__init__(patience=patience)
        self.max_norm = max_norm

    def statistic(self, pl_module: LightningModule, optimizer: Optimizer) -> Tensor:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not gradients:
            return torch.zeros((), device=pl_module.device)
        norm = torch.nn.utils.get_total_norm(gradients)
        pl_module.gradient_norm = norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        return norm

    def reason(self, own: float, worst: float) -> str | None:
        """A norm above `max_norm`, or one that is not finite."""
        if worst <= self.max_norm:
            return None
        size = f"{worst:.3g}" if math.isfinite(worst) else "NaN or Inf"
        return f"gradient norm {size} (limit {self.max_norm:g})"
