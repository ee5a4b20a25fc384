"""Exports the weights of the best validation, or the mean of several validations' weights, instead of the last step's.

    checkpoints/weights/<step>.safetensors      what training changes, at each validation that is (still) needed

The mean of the last or best checkpoints is what ESPnet and Fairseq decode with (Vaswani et al. 2017, 6.1). All floating-point
state is averaged, the running statistics of batch norms too; codebooks that follow averages of their own are not, since
entries that were renewed do not correspond: such a stage is refused.

The files' names are state of this callback, so a resumed run goes on with them, and writes those again that came after its
checkpoint.
"""

import logging
import math
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from callbacks.optimizer_averages import averaged
from callbacks.whole_weights import like, own_shards, whole
from muomni.checkpoints.atomic_write import atomic_write

log = logging.getLogger(__name__)


class WeightAverage(Callback):
    """Keeps the weights of validations, and puts their mean into the stage when training is over.

    Args:
        source: "last" or "best" validations by `monitor`, of which `mode` ("min", "max") says which way is better; the weights
            of the last step count among the last. count: how many. folder: of the files.
    """

    def __init__(self, *, source: str, count: int, monitor: str, mode: str, folder: str) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"average={count}: a whole number of validations, at least 1")
        self.source, self.count, self.monitor, self.mode = source, count, monitor, mode
        self.folder = Path(folder)
        self.kept: list[tuple[int, float]] = []
        """Step and monitor of the files that are needed, in the order of steps."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise ValueError for what cannot be averaged, and where nothing would be validated."""
        stage: Any = pl_module
        reason = stage.cannot_average() if self.count > 1 else None
        if reason is not None:
            raise ValueError(f"average={self.count}: {reason}")
        interval, steps = trainer.val_check_interval, trainer.max_steps
        by_steps = trainer.check_val_every_n_epoch is None and isinstance(interval, int)
        back = (self.count - 1) * interval if by_steps else 0
        if self.source == "last" and 0 < steps < 2 * back:
            log.warning(
                "average=%d: validations %d steps apart reach back to step %d of %d, when the weights still change much, "
                "and their mean may be worse than the last: average=%d, or a smaller trainer.val_check_interval, stays in "
                "the last half",
                self.count, interval, max(steps - back, interval), steps, steps // (2 * interval) + 1,
            )  # fmt: skip
        if self.source == "best" and by_steps and 0 < steps < interval:
            raise ValueError(
                f"export=best: of {steps} steps none is validated: trainer.val_check_interval={interval} should be smaller"
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights, if the validation is one of those that are needed."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._add(trainer, pl_module, float(trainer.callback_metrics.get(self.monitor, math.nan)))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last step's weights."""
        if self.source == "last":
            with averaged(trainer):  # in a validation they are in already
                self._add(trainer, pl_module, math.nan)

    def _add(self, trainer: Trainer, pl_module: LightningModule, value: float) -> None:
        step = trainer.global_step
        if any(step == each for each, _ in self.kept):
            return
        needed = self._needed([*self.kept, (step, value)])
        if (step, value) in needed:
            tensors = {name: whole(each).cpu().contiguous().clone() for name, each in _changing(pl_module).items()}
            if trainer.is_global_zero:
                self.folder.mkdir(parents=True, exist_ok=True)
                with atomic_write(self._file(step)) as temporary:
                    safetensors.torch.save_file(tensors, temporary)
        for old, _ in self.kept:
            if trainer.is_global_zero and old not in {each for each, _ in needed}:
                self._file(old).unlink(missing_ok=True)
        self.kept = needed

    def _needed(self, found: list[tuple[int, float]]) -> list[tuple[int, float]]:
        """The last, or the best of them, of equals the first."""
        if self.source == "best":
            sign = -1.0 if self.mode == "max" else 1.0
            finite = [each for each in found if math.isfinite(each[1])]
            return sorted(sorted(finite, key=lambda each: (sign * each[1], each[0]))[: self.count])
        return sorted(found)[-self.count :]

    def _file(self, step: int) -> Path:
        return self.folder / f"{step}.safetensors"

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the mean into the stage, for export and tests, after the last checkpoint."""
        missing = [str(self._file(step)) for step, _ in self.kept if not self._file(step).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{missing[0]}: these weights are to be exported; export=last average=1 does without"
            )
        if not self.kept:
            raise ValueError(
                f"export={self.source}: no validation had a finite {self.monitor}; export=last does without"
            )
        total: dict[str, Tensor] = {}
        for step, _ in self.kept:
            for name, value in safetensors.torch.load_file(self._file(step)).items():
                if not value.is_floating_point():
                    total[name] = value
                elif name in total:
                    total[name] += value
                else:
                    total[name] = value.float()
        targets = _changing(pl_module)
        for name, value in total.items():
            mean = value / len(self.kept) if value.is_floating_point() else value
            torch._foreach_copy_(
                own_shards([targets[name]]), own_shards([like(mean.to(targets[name].dtype), targets[name])])
            )
        steps = ", ".join(str(step) for step, _ in self.kept)
        log.info("exported are the weights of step %s%s", steps, self._values())

    def _values(self) -> str:
        values = [f"{value:.4g}" for _, value in self.kept if math.isfinite(value)]
        return f" ({self.monitor} {', '.join(values)})" if values else ""

    def state_dict(self) -> dict[str, Any]:
        return {"kept": [[step, value] for step, value in self.kept]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.kept = [(int(step), float(value)) for step, value in state_dict["kept"]]


def _changing(stage: LightningModule) -> dict[str, Tensor]:
    """What training changes: the stage's state but for what it keeps frozen."""
    frozen = {
        id(each) for module in getattr(stage, "_frozen", []) for each in (*module.parameters(), *module.buffers())
    } | {id(each) for each in getattr(stage, "frozen_parameters", ())}
    named = list(stage.named_parameters())
    for prefix, module in stage.named_modules():  # not state_dict(): it shards again what a validation has gathered
        buffers = module.named_buffers(prefix=prefix, recurse=False)
        named += [
            (name, each) for name, each in buffers if name.rpartition(".")[2] not in module._non_persistent_buffers_set
        ]
    return {name: value.detach() for name, value in named if id(value) not in frozen}
