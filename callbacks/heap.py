"""Gives memory that is free back to the system, where batches of ever other lengths would pile it up (muomni/heap.py)."""

from typing import Any

from lightning import Callback, LightningModule, Trainer

from muomni import heap


class Heap(Callback):
    """Every `every_n_steps` steps."""

    def __init__(self, every_n_steps: int = 50):
        self.every_n_steps = every_n_steps

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """After the step."""
        if trainer.global_step % self.every_n_steps == 0:
            heap.give_back()
