"""Ctrl-C and SIGTERM: finish the step, save, leave with the signal's exit code."""

import logging
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)


class Interrupts(Callback):
    """The first SIGINT or SIGTERM ends training after the running step with a resume checkpoint; a second one at once.

    Exit codes: 130 and 143. The same command goes on from there (resume=auto). Must be the last of the callbacks, so that
    the others have counted the step.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._signal: int | None = None
        self._stepped = False
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen from now on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = number
        log.warning("\nending after this step; once more to end at once")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """No step yet."""
        self._stepped = False

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """The batch completes a step."""
        self._stepped = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and leave when a signal came: after a whole step, as a checkpoint keeps no accumulated gradients."""
        if self._signal is None or not self._stepped:
            return
        trainer.save_checkpoint(self.path)
        log.warning("saved %s at step %d; the same command goes on from there", self.path, trainer.global_step)
        sys.exit(128 + self._signal)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen no more."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
