"""What the optimizers of this package have in common: a step is that of each group."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


class ByGroup(Optimizer):
    """A subclass defines `_step_groups`, which runs without gradients."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step_groups()
        return loss

    def _step_groups(self) -> None:
        raise TypeError(f"{type(self).__name__} does not define _step_groups")
