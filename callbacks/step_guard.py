"""What the guards of a training step share: one verdict a step, the same on all ranks, for one read of the device.

A step can be refused between backward pass and optimizer only: after float16's unscaling, before the clipping. So each
guard gathers its evidence on the device while the step runs, and the last guard of a trainer reads all of it at once, where
Lightning calls `on_before_optimizer_step`. Whether to step is decided on the host: there the step waits in any case.

A refused step drops its gradients on every rank. Optimizer and gradient scaler are called as always and find nothing to do
(the scaler has looked at the gradients before, and lowers its scale if they overflowed); the learning rate's schedule and
`global_step` count the step. With accumulation the whole window is refused, just as the large batch would be that it stands for.
"""

import logging
import math
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from muomni.checkpoints.export import first_broken

log = logging.getLogger(__name__)

SHOWN = 8  # sample ids in a message


class StepGuard(Callback):
    """A guard gives `evidence` and says whether it is an `objection`; refusing, counting and logging are here.

    Args:
        patience: refused steps in a row after which training ends with an error.
    """

    def __init__(self, *, patience: int) -> None:
        if patience < 1:
            raise ValueError(f"patience={patience}: at least 1")
        self.patience = patience
        self.refused, self.in_a_row = 0, 0
        self._samples: list[str] = []
        self._judged = True

    # --- what a guard gives ------------------------------------------------------------------------------------------

    def evidence(self, pl_module: LightningModule, optimizer: Optimizer) -> Tensor:
        """A scalar, still on the device: the larger, the worse; NaN and Inf are the worst. Across ranks the largest counts."""
        raise TypeError(f"{type(self).__name__} does not define evidence")

    def objection(self, own: float, worst: float) -> str | None:
        """Why the step must not be taken; None: it may. own: this rank's evidence, worst: the largest; NaN reads as Inf."""
        raise TypeError(f"{type(self).__name__} does not define objection")

    def forget(self) -> None:
        """A new step begins."""

    # --- what they share ---------------------------------------------------------------------------------------------

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember what the step's batches held. The first batch behind a verdict begins a new step."""
        if self._judged:
            self._judged = False
            self._samples.clear()
            self.forget()
        self._samples += batch.sample_ids

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """The last guard asks them all."""
        guards = [callback for callback in trainer.callbacks if isinstance(callback, StepGuard)]  # type: ignore[attr-defined]
        if self is guards[-1]:
            _judge(guards, trainer, pl_module, optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Counts, so that a resumed run goes on with them."""
        return {"refused": self.refused, "in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The other way round."""
        self.refused, self.in_a_row = state_dict["refused"], state_dict["in_a_row"]


def _judge(guards: list[StepGuard], trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
    """Read the evidence, refuse the step or let it be, count, log, and end training when nothing is right any more."""
    own = torch.stack([guard.evidence(pl_module, optimizer).detach().float() for guard in guards])
    own = own.nan_to_num(nan=math.inf, posinf=math.inf)  # the largest of numbers and NaN is not defined
    worst = trainer.strategy.reduce(own.clone(), reduce_op="max") if trainer.world_size > 1 else own
    here, there = torch.stack([own, worst]).tolist()
    objections = []
    for guard, mine, largest in zip(guards, here, there, strict=True):
        guard._judged = True
        objection = guard.objection(mine, largest)
        guard.in_a_row = guard.in_a_row + 1 if objection else 0
        if objection:
            guard.refused += 1
            objections.append((guard, objection))
    if objections:
        _refuse(objections, trainer, pl_module, optimizer)
    if objections or (trainer.global_step + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
        refused = {_key(pl_module, guard): float(guard.refused) for guard in guards}
        pl_module.log_dict(refused)


def _key(pl_module: LightningModule, guard: StepGuard) -> str:
    """`<stage>/train/refused_by_finite_guard`."""
    name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in type(guard).__name__)
    return f"{pl_module.name}/train/refused_by{name}"


def _refuse(
    objections: list[tuple[StepGuard, str]], trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
) -> None:
    optimizer.zero_grad(set_to_none=True)
    for guard, objection in objections:
        samples = ", ".join(guard._samples[:SHOWN]) + (", ..." if len(guard._samples) > SHOWN else "")
        log.warning("%s (step %d refused; samples %s)", objection, trainer.global_step, samples)
    for guard, objection in objections:
        if guard.in_a_row >= guard.patience:
            broken = first_broken(pl_module.state_dict())
            cause = "" if broken is None else f"; {broken}: start again from a checkpoint (resume=FILE)"
            raise RuntimeError(
                f"step {trainer.global_step}: {objection}: {guard.in_a_row} refused steps in a row{cause}; lower optim.lr, or "
                f"look at the samples {', '.join(guard._samples[:4])}"
            )
