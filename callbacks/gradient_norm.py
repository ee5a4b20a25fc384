"""Logs the norm of the gradients before clipping, of the very step whose losses are logged."""

from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer


class GradientNorm(Callback):
    """`<stage>/train/gradient_norm`, as the gradient guard measured it."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        norm = getattr(pl_module, "gradient_norm", None)
        if norm is not None and (trainer.global_step + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            pl_module.log(f"{pl_module.name}/train/gradient_norm", norm)
