"""A learning rate that is far too high, by how far hidden matrices move away from their beginning.

Within 50 steps the loss need not tell: the Thinker learns as fast at ten times its rate. The distance that its matrices have
moved does: it grows with the rate, and less with anything else (docs/reliability.md has it for all stages, at their rates and at
ten times those).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from callbacks.symptoms.base import Symptom

SAMPLE = 4096  # numbers of a matrix that are kept
FULL_STEPS = 6.0  # steps at the full rate, or as many more within a warm-up, after which it is judged


@dataclass(kw_only=True)
class HighRate(Symptom):
    """The median over hidden matrices of the distance from their beginning, a step at the full rate, is above a limit.

    The distance is a share of the matrix's norm, divided by the root of its inputs, since wide matrices begin with smaller
    numbers: in thousandths. A resumed training is not judged.

    limits: by stage; one without a limit is not judged.
    """

    limits: Mapping[str, float]
    moved: float | None = field(default=None, init=False)
    """What was measured."""
    _start: dict[int, Tensor] | None = field(default=None, init=False)
    _steps: float = field(default=0.0, init=False)
    _last: tuple[int, float] = field(default=(0, 0.0), init=False)

    def examine_gradients(self, stage: Any, batch: Any) -> None:
        """The weights before the first step."""
        if self._start is None and self.moved is None and stage.trainer.global_step == 0:
            matrices = {id(matrix): _sample(matrix).clone() for matrix, _ in _matrices(stage)}
            self._start = matrices if stage.name in self.limits else None

    def finding(self, stage: Any, batch: Any) -> str | None:
        if self._start is not None:
            self._count_steps(stage)
            if self._steps >= FULL_STEPS:
                self.moved = 1000 * self._distance(stage) / self._steps
                self._start = None
        limit = self.limits.get(stage.name)
        if self.moved is None or limit is None or self.moved <= limit:
            return None
        return (
            f"the learning rate is too high: in a step matrices move by {self.moved:.2f} thousandths, where {limit:g} is the "
            f"most of a healthy run. Lower optim.lr ({_rate(stage):g} now): a tenth of it, or the default of the stage; "
            "schedule.warmup_steps helps less"
        )

    def _count_steps(self, stage: Any) -> None:
        """Add the steps since the last examined one, each as its share of the full rate."""
        group = stage.trainer.optimizers[0].param_groups[0]
        step, share = stage.trainer.global_step, group["lr"] / group.get("initial_lr", group["lr"])
        before, share_before = self._last
        self._steps += (step - before) * (share + share_before) / 2
        self._last = step, share

    def _distance(self, stage: Any) -> float:
        assert self._start is not None
        moved, norms, scales = [], [], []
        for matrix, inputs in _matrices(stage):
            start = self._start.get(id(matrix))
            if start is not None:
                moved.append((_sample(matrix) - start).norm())
                norms.append(start.norm())
                scales.append(inputs**0.5)
        far, size = torch.stack([torch.stack(moved), torch.stack(norms)]).tolist() if moved else ([], [])
        shares = [a / b / scale for a, b, scale in zip(far, size, scales, strict=True) if b > 0]
        return median(shares) if shares else 0.0


def _matrices(stage: Any) -> Iterator[tuple[Tensor, int]]:
    """Hidden matrices of the optimizer, and how many inputs each has."""
    for group in stage.trainer.optimizers[0].param_groups:
        if group.get("matrices"):
            for parameter in group["params"]:
                yield parameter, parameter.shape[-1] if group.get("stacked") else parameter[0].numel()


def _sample(matrix: Tensor) -> Tensor:
    """Some of its numbers, evenly."""
    local = matrix.detach()
    flat = (local.to_local() if isinstance(local, DTensor) else local).flatten()
    return flat[:: max(1, flat.numel() // SAMPLE)].float()


def _rate(stage: Any) -> float:
    group = stage.trainer.optimizers[0].param_groups[0]
    return float(group.get("initial_lr", group["lr"]))
