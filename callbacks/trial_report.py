"""Reports a training's validations to its trial of a study (muomni/sweep), and ends a training that is not worth continuing."""

import logging
import sys
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from callbacks.step_guard import DivergedError

log = logging.getLogger(__name__)


class TrialReport(Callback):
    """After each validation: reports the monitor. A trial that is pruned, or whose monitor is not finite, ends the process with
    an exit code of its own. A training that the guards end is noted as diverged.

    Args:
        sweep, number, offset: of `TrialReporter`. monitor: the metric.
    """

    def __init__(self, *, sweep: str, number: int, offset: int, monitor: str) -> None:
        from muomni.sweep.report import TrialReporter  # Optuna is an extra

        self.reporter = TrialReporter(sweep, number, offset=offset)
        self.monitor = monitor

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, and leave if the trial is over."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or not trainer.is_global_zero:
            return
        if self.monitor not in trainer.callback_metrics:
            raise ValueError(f"monitor={self.monitor}: this validation did not measure it")
        reason = self.reporter.report(trainer.global_step, float(trainer.callback_metrics[self.monitor]))
        if reason is not None:
            log.warning("trial %d %s", self.reporter.trial.number, reason)
            sys.exit(self.reporter.exit_code)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Note that the guards ended the training."""
        cause: Any = exception
        if isinstance(cause, DivergedError):
            self.reporter.end(f"diverged: {' '.join(str(cause).split())}")
