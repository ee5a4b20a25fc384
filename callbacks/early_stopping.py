"""Ends training when the monitor has stopped to improve. A run that is killed after that does not train on when resumed."""

import sys

from lightning import LightningModule, Trainer
from lightning.pytorch import callbacks


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's, looking at the validations alone.

    Args:
        monitor, mode: the metric, and whether "min" or "max" is best. patience: validations in a row without a value that is
            better by more than `min_delta`; None: training is never ended.
    """

    def __init__(self, *, monitor: str, mode: str | None, patience: int | None, min_delta: float) -> None:
        if patience is not None and patience < 1:
            raise ValueError(f"early_stopping.patience={patience}: at least 1 validation, or null")
        super().__init__(
            monitor,
            mode=mode or "min",
            patience=sys.maxsize if patience is None else patience,
            min_delta=min_delta,
            strict=patience is not None,
            check_finite=False,
            check_on_train_epoch_end=False,
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop again where the checkpoint was written after training had stopped."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True
