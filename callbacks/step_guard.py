"""Base of the guards of a training step: one decision a step, the same on all ranks, with one read of the device.

A step can be skipped only between backward pass and optimizer: after float16's unscaling, before clipping. So each
guard computes its statistic on the device while the step runs, and the last guard of a trainer reads all of them at once, in
`on_before_optimizer_step`. Whether to step is decided on the host, where the step waits in any case.

A skipped step drops its gradients on every rank. Optimizer and gradient scaler are called as always and are no-ops
(the scaler has checked the gradients before, and lowers its scale if they overflowed); the learning rate schedule and
`global_step` count the step. With accumulation the whole window is skipped, since it stands for one large batch.
"""

import logging
import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from muomni.checkpoints.export import first_broken

log = logging.getLogger(__name__)

SHOWN = 8  # sample ids in a message


class DivergedError(RuntimeError):
    """Training was ended by a guard: too many steps in a row were skipped."""


class StepGuard(Callback, ABC):
    """A guard defines `statistic`, the `reason` to skip the step, and what to `forget` after it; the rest is here.

    Args:
        patience: skipped steps in a row after which training ends with an error.
    """

    name: str

    def __init__(self, *, patience: int) -> None:
        self.patience = patience
        self.skipped, self.in_a_row = 0, 0
        self._samples: list[str] = []
        self._checked = True

    @abstractmethod
    def statistic(self, pl_module: LightningModule, optimizer: Optimizer) -> Tensor:
        """A scalar on the device: larger is worse; NaN and Inf are worst. The maximum over the ranks counts."""

    @abstractmethod
    def reason(self, own: float, worst: float) -> str | None:
        """Reason to skip the step, or None. own: this rank's statistic, worst: the maximum over the ranks; NaN counts as Inf."""

    def forget(self) -> None:
        """Reset for a new step."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Collect the sample ids of the step. The first batch after a decision begins a new step."""
        if self._checked:
            self._checked = False
            self._samples.clear()
            self.forget()
        self._samples += batch.sample_ids

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Let the last guard check all of them."""
        guards = [callback for callback in trainer.callbacks if isinstance(callback, StepGuard)]  # type: ignore[attr-defined]
        if self is guards[-1]:
            _check(guards, trainer, pl_module, optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Counts, which a resumed run continues."""
        return {"refused": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped, self.in_a_row = state_dict["refused"], state_dict["in_a_row"]


def _check(guards: list[StepGuard], trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
    """Read the statistics, decide on the step, count, log, and end training after too many skipped steps."""
    own = torch.stack([guard.statistic(pl_module, optimizer).detach().float() for guard in guards])
    own = own.nan_to_num(nan=math.inf, posinf=math.inf)  # the maximum of numbers and NaN is undefined
    worst = trainer.strategy.reduce(own.clone(), reduce_op="max") if trainer.world_size > 1 else own
    here, there = torch.stack([own, worst]).tolist()
    reasons = []
    for guard, mine, largest in zip(guards, here, there, strict=True):
        guard._checked = True
        reason = guard.reason(mine, largest)
        guard.in_a_row = guard.in_a_row + 1 if reason else 0
        if reason:
            guard.skipped += 1
            reasons.append((guard, reason))
    if reasons:
        _skip(reasons, trainer, pl_module, optimizer)
    if reasons or (trainer.global_step + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
        prefix = f"{pl_module.name}/train/refused_by_"
        pl_module.log_dict({prefix + guard.name: float(guard.skipped) for guard in guards})


def _skip(
    reasons: list[tuple[StepGuard, str]], trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
) -> None:
    optimizer.zero_grad(set_to_none=True)
    for guard, reason in reasons:
        samples = ", ".join(guard._samples[:SHOWN]) + (", ..." if len(guard._samples) > SHOWN else "")
        log.warning("%s (step %d skipped; samples %s)", reason, trainer.global_step, samples)
    for guard, reason in reasons:
        if guard.in_a_row >= guard.patience:
            broken = first_broken(pl_module.state_dict())
            cause = "" if broken is None else f"; {broken}: start again from a checkpoint (resume=FILE)"
            raise DivergedError(
                f"step {trainer.global_step}: {reason}: {guard.in_a_row} skipped steps in a row{cause}; lower optim.lr, or "
                f"look at the samples {', '.join(guard._samples[:4])}"
            )
