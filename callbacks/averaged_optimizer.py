"""Weights that an optimizer averages itself (optim=schedule_free): what is validated, exported and tested.

The model holds the weights that learn, and so do its checkpoints; the average is computed from them and from the optimizer's
state where it is needed, and the weights come back bit for bit. So a resumed run equals one that was never stopped.
Without such an optimizer this does nothing.
"""

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from callbacks.ema import EMA
from callbacks.optimizer_averages import Weights, put, put_averages
from callbacks.weight_average import WeightAverage


class AveragedOptimizer(Callback):
    """Validates, exports and tests an optimizer's own `averages`. Comes after callbacks that read weights at the end of a
    validation."""

    def __init__(self) -> None:
        self._trained: Weights = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise ValueError for a second average of the weights."""
        averages = any(hasattr(optimizer, "averages") for optimizer in trainer.optimizers)
        if averages and any(isinstance(callback, EMA) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            raise ValueError("callbacks=ema with optim=schedule_free: this optimizer averages the weights itself")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._trained = put_averages(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the weights, bit for bit."""
        put(self._trained)
        self._trained = []

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the weights: checkpoints contain those that learn."""
        self.on_validation_end(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in for export and test, after the last checkpoint; export= and average= have put theirs."""
        if not any(isinstance(callback, WeightAverage) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            put_averages(trainer)
