"""Ctrl-C, SIGTERM and SLURM's SIGUSR1: finish the step, save, exit with the signal's code."""

import logging
import signal
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from callbacks.resume_checkpoint import ResumeCheckpoint
from muomni.run import signals

log = logging.getLogger(__name__)


class Interrupts(Callback):
    """A signal ends training after the current step with a resume checkpoint, on all ranks; a second Ctrl-C exits at once.

    Exit codes: muomni/run/signals.py. The same command resumes from there (resume=auto). Must be the last callback, so
    that the others have counted the step.
    """

    def __init__(self) -> None:
        self._signal = 0
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for number in signals.watched():
            self._before[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self._signal == signal.SIGINT:
            signals.leave(number)
        self._signal = number
        log.warning("\nending after this step%s", "; once more to end at once" if number == signal.SIGINT else "")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Exit after a complete step: checkpoints store no accumulated gradients. The last step is saved in any case."""
        if not trainer.fit_loop._should_accumulate() and trainer.global_step != trainer.max_steps:
            self._leave_if_asked(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._leave_if_asked(trainer)

    def _leave_if_asked(self, trainer: Trainer) -> None:
        number = self._signal
        if trainer.world_size > 1:  # a signal may reach the ranks in different steps
            number = int(
                trainer.strategy.reduce(torch.tensor(number, device=trainer.strategy.root_device), reduce_op="max")
            )
        if not number:
            return
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ResumeCheckpoint):
                callback.save(trainer)
                log.warning(
                    "saved %s at step %d; the same command resumes from there", callback.path, trainer.global_step
                )
        signals.leave(number)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
