"""The progress bar: of an epoch, with the step of the whole training and how long the rest of it takes, and the rest of all
stages that the command trains; for a resumed run too.

Lightning calls no epoch-start hook when it resumes within an epoch: its bar then has no name and no total, and counts the
batches before the checkpoint as trained now. It also takes remaining steps for batches. And what is logged for its bar
(`prog_bar=True`) it reads from the device at every step, shown or not; so the loss is read here, when it is shown.
"""

import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from tqdm import tqdm

from muomni.run import forecast

NOTE_EVERY = 5.0  # seconds


class Progress(TQDMProgressBar):
    """Lightning's bar, with the batches done and to do in this epoch."""

    _first = True
    """Whether the next batch is the first that this process trains on."""
    _noted = 0.0
    """When what is left was last noted."""

    @property
    def total_train_batches(self) -> int | float:
        """Batches of an epoch that now begins."""
        return self._total(0)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What stands after the bar: the loss, step=DONE/ALL, and left=TIME of the training at the bar's rate; all=TIME of it
        and all stages still to come."""
        shown: dict[str, Any] = super().get_metrics(trainer, pl_module)
        loss = trainer.callback_metrics.get(f"{pl_module.name}/train/loss")
        if loss is not None:
            shown["loss"] = float(loss)
        if trainer.training and trainer.max_steps > 0:
            shown["step"] = f"{trainer.global_step}/{trainer.max_steps}"
            bar = self.train_progress_bar.format_dict
            if done := bar["n"] - bar["initial"]:
                batches = (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches
                left = batches * bar["elapsed"] / done
                shown["left"] = tqdm.format_interval(left)
                if (whole := self._whole(str(pl_module.name), left)) is not None:
                    shown["all"] = tqdm.format_interval(whole)
        return shown

    def _whole(self, stage: str, left: float) -> float | None:
        """Seconds until all stages of the command are done; None where this is the only one. Noted now and then."""
        if time.monotonic() - self._noted > NOTE_EVERY:
            self._noted = time.monotonic()
            forecast.note(stage, left)
        return forecast.remaining()

    def on_train_start(self, *arguments: Any) -> None:
        self._first = True
        super().on_train_start(*arguments)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the bar at the position within the epoch."""
        first, self._first = self._first, False
        if first and batch_idx > 0:
            bar = self.train_progress_bar
            bar.reset()  # its time begins now
            bar.total = self._total(batch_idx)
            bar.n = bar.initial = batch_idx
            bar.set_description(f"Epoch {trainer.current_epoch}")

    def _total(self, done: int) -> int | float:
        """Total batches of an epoch of which `done` are over: all, or as many as the remaining steps take."""
        trainer, whole = self.trainer, self.trainer.num_training_batches
        if trainer.max_steps < 0:
            return whole
        return min(whole, done + (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches)
