"""Tells the datamodule how many batches training has used, so that a resumed run continues after them."""

from typing import Any

from lightning import Callback, LightningModule, Trainer


class DataPosition(Callback):
    """Counts a batch when its training is over; must come before the callback that saves checkpoints."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        trainer.datamodule.count_batch()  # type: ignore[attr-defined]
