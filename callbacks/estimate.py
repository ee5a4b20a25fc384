"""Before the first step one table: parameters, operations, memory. After the first steps the hours that the rest will take.

Memory is of what is known: weights, gradients and the optimizer's state exactly; activations about, from what the products of the
first batch return (`Cost.activations`); not the program itself, nor data. The time is the median of the first steps without
the very first ones, which compile and fill caches, times the steps that remain; a batch of a validation counts as a third of a
step. Tests are not counted.
"""

import io
import logging
import statistics
import time
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from muomni.run import dry_run, forecast
from muomni.run.time_spans import duration

log = logging.getLogger(__name__)

MIB = 2**20
#: Numbers that a backward pass keeps for each that a product returns: measured over all stages, 1.9 to 3.3.
KEPT = 2.3
#: Steps that warm up, which no estimate is made of.
WARM_UP = 3


def readable(number: float, unit: str) -> str:
    """1234567 -> "1.23 M" and the unit."""
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}{unit}"
    return f"{number:g} {unit}".strip()


def optimizer_bytes(optimizer: Any) -> int:
    """Of its state once it has stepped: two numbers a weight; one for Muon's matrices and for Lion; of SOAP's matrices a square
    of each side twice as well; what 8-bit AdamW says itself."""
    total = 0
    for group in optimizer.param_groups:
        if group.get("optimizer") == "8-bit AdamW":
            total += sum(optimizer.state_bytes(parameter, group) for parameter in group["params"])
            continue
        one = group.get("muon") or group.get("optimizer") == "Lion"
        total += sum((1 if one else 2) * parameter.nbytes for parameter in group["params"])
        if group.get("soap"):
            total += sum(optimizer.basis_bytes(parameter, group) for parameter in group["params"])
    return total


def overview(stage: Any, trainer: Any, batch: Any) -> dict[str, str]:
    """The rows of the table."""
    parameters = list(stage.parameters())
    trained = [each for each in parameters if each.requires_grad]
    weights, gradients = (sum(each.nbytes for each in some) for some in (parameters, trained))
    state = sum(optimizer_bytes(each) for each in trainer.optimizers)
    rows = {
        "parameters": readable(sum(each.numel() for each in parameters), ""),
        "trained": readable(sum(each.numel() for each in trained), ""),
        "steps": f"{trainer.max_steps}, of {len(batch.sample_ids)} samples in the first batch",
    }
    memory = f"weights {weights / MIB:.0f} + gradients {gradients / MIB:.0f} + optimizer {state / MIB:.0f}"
    cost = stage.step_cost(batch)
    total = weights + gradients + state
    if cost is not None:
        rows["operations a step"] = readable(cost.flops * trainer.accumulate_grad_batches, "FLOP")
        activations = KEPT * cost.activations * (2 if "16" in str(trainer.precision) else 4)
        memory += f" + activations about {activations / MIB:.0f}"
        total += activations
    rows["memory expected"] = f"{total / MIB:.0f} MiB: {memory}"
    return rows


def as_table(title: str, rows: dict[str, str]) -> str:
    """Rows of two columns as text."""
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, value)
    out = io.StringIO()
    Console(file=out, width=110).print(table)
    return out.getvalue().rstrip()


class Estimate(Callback):
    """Logs the table and the estimate.

    Args:
        steps: that the estimate is made of. stop: end the training after them (dry_run=true).
    """

    def __init__(self, *, steps: int, stop: bool) -> None:
        self.steps, self.stop = steps, stop
        self._seconds: list[float] = []
        self._done, self._since = 0, 0.0
        self._shown = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._done, self._since = trainer.global_step, time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The table, with the first batch."""
        if not self._shown:
            self._shown = True
            if trainer.is_global_zero:
                log.info("%s", as_table(f"stage={pl_module.name}", overview(pl_module, trainer, batch)))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Time a step; after the last of `steps` the estimate."""
        if trainer.global_step == self._done or len(self._seconds) >= self.steps:
            return  # within a step, where gradients are accumulated; or done
        now = time.perf_counter()
        self._seconds.append(now - self._since)
        self._done, self._since = trainer.global_step, now
        if len(self._seconds) == self.steps or (self.stop and trainer.global_step >= trainer.max_steps):
            self._conclude(trainer, pl_module)

    def _conclude(self, trainer: Any, pl_module: LightningModule) -> None:
        step = statistics.median(self._seconds[WARM_UP:] or self._seconds)
        done = 0 if self.stop else trainer.global_step
        remaining = max(0, trainer.max_steps - done)
        interval = trainer.val_check_interval
        validations = remaining // interval if isinstance(interval, int) and interval else 0
        batches = sum(trainer.num_val_batches or []) if validations else 0
        seconds = step * (remaining + validations * batches / 3)
        if trainer.is_global_zero:
            log.info(
                "stage=%s: about %s on this machine for %d steps (%.3g s each, the median of the first %d), tests not counted",
                pl_module.name, duration(seconds), remaining, step, len(self._seconds),
            )  # fmt: skip
            if self.stop:
                dry_run.note(str(pl_module.name), seconds)
            else:
                forecast.note(str(pl_module.name), seconds)
                if (left := forecast.remaining()) is not None:
                    log.info("with all that is still to be trained: about %s", duration(left))
        if self.stop:
            trainer.should_stop = True
