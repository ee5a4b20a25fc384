"""Stops a step whose loss or gradients are broken, before the optimizer sees them."""

import logging
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

log = logging.getLogger(__name__)


class FiniteGuard(Callback):
    """Skips the optimizer's step when the norm of the gradients is not finite or over `max_norm`.

    It looks after fp16's unscaling and before clipping; the gradients of a skipped step are dropped on every rank.
    After `patience` skips in a row training stops with an error that names stage, step and norm.
    """

    def __init__(self, max_norm: float = 100.0, patience: int = 20) -> None:
        self.max_norm, self.patience = max_norm, patience
        self.skipped = 0
        self._in_a_row = 0
        self._sample_ids: list[str] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember what the batch held."""
        self._sample_ids = list(batch.sample_ids)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Look at the unscaled gradients."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not gradients:
            return
        norm = torch.nn.utils.get_total_norm(gradients)
        bad = (~(norm <= self.max_norm)).float()
        if trainer.world_size > 1:
            bad = trainer.strategy.reduce(bad, reduce_op="max")
        pl_module.gradient_norm = norm  # type: ignore[assignment]
        if not bad:
            self._in_a_row = 0
            return
        self.skipped += 1
        self._in_a_row += 1
        optimizer.zero_grad(set_to_none=True)
        where = f"step {trainer.global_step}: gradient norm {norm.item():.3g} (limit {self.max_norm:g})"
        log.warning("%s; step skipped, samples %s", where, ", ".join(self._sample_ids[:8]))
        if self._in_a_row >= self.patience:
            raise RuntimeError(
                f"{where}: {self._in_a_row} skipped steps in a row; lower optim.lr or look at the samples "
                f"{', '.join(self._sample_ids[:4])}"
            )
