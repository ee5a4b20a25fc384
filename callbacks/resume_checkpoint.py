"""Checkpoints to resume from: every `every_n_train_steps`, at a signal, and at the end of training.

    checkpoints/last.ckpt       the newest
    checkpoints/previous.ckpt   the one before, in case the newest is damaged

A checkpoint is written as soon as a step is done, before the validation and the log entry that belong to it, so that a kill
during validation costs no training. Lightning skips both when it resumes from such a checkpoint. Hence the checkpoint also
stores what was pending, and a resumed run does that first: it logs the step, validates, and only then continues. So
metrics, best checkpoint and random generators equal those of a run that was never killed.
"""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loops.progress import _ProcessedTracker

from callbacks.metrics_file import MetricsFile


class ResumeCheckpoint(Checkpoint):
    """Keeps the two newest checkpoints in a folder. Lightning calls a Checkpoint after all other callbacks.

    Args:
        dirpath: the folder. every_n_train_steps: how often; the last step's is written at the end of training.
    """

    def __init__(self, dirpath: str, every_n_train_steps: int) -> None:
        self.folder, self.every_n_train_steps = Path(dirpath), every_n_train_steps
        self._trainer: Trainer | None = None
        self._restored: dict[str, Any] | None = None

    @property
    def path(self) -> Path:
        """Path of the newest checkpoint."""
        return self.folder / "last.ckpt"

    def save(self, trainer: Trainer) -> None:
        """Write the newest checkpoint; a collective operation."""
        trainer.save_checkpoint(self.path, weights_only=False)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """`state_dict` is called without it."""
        self._trainer = trainer

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save after complete steps only: a checkpoint stores no accumulated gradients."""
        whole = not trainer.fit_loop._should_accumulate()
        if whole and trainer.global_step % self.every_n_train_steps == 0 and trainer.global_step != trainer.max_steps:
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step, so that a run killed during export or tests need not train again."""
        self.save(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Pending logging and validation of the current step, and the row count of metrics.csv."""
        trainer = self._trainer
        assert trainer is not None
        loop = trainer.fit_loop.epoch_loop
        fetcher = trainer.fit_loop._data_fetcher
        total = loop.batch_progress.total
        assert isinstance(total, _ProcessedTracker)
        in_step = total.completed < total.processed
        due = in_step and fetcher is not None and bool(loop._should_check_val_fx(fetcher))
        logs = trainer._logger_connector
        row = logs.metrics["log"] if in_step and logs.should_update_logs else {}
        for logger in trainer.loggers:
            logger.save()
        return {
            "validation_due": due,
            "unlogged": {name: float(value) for name, value in row.items()},
            "epoch": trainer.current_epoch,
            "rows": [logger.experiment.rows for logger in trainer.loggers if isinstance(logger, MetricsFile)],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Store the pending work until training starts; cut metrics.csv back at once."""
        self._restored = state_dict
        assert self._trainer is not None
        files = [logger for logger in self._trainer.loggers if isinstance(logger, MetricsFile)]
        for file, rows in zip(files, state_dict["rows"], strict=False):
            file.experiment.cut_back(rows)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Complete the step in which the checkpoint was written."""
        state, self._restored = self._restored, None
        if state is None:
            return
        epoch = trainer.fit_loop.epoch_progress.current
        now, epoch.completed = epoch.completed, state["epoch"]  # it may have been the last step of its epoch
        trainer._logger_connector.log_metrics(state["unlogged"])
        if state["validation_due"]:
            loop = trainer.fit_loop.epoch_loop.val_loop
            loop.restarting = False
            trainer.validating = True
            loop.run()
            trainer.training = True
        epoch.completed = now
