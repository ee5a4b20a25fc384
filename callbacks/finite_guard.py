"""Detects NaN and Inf in the inputs of a training step, in the outputs of the model's modules, and in the loss.

Inputs are checked before the forward pass, since moving averages (the codec's codebooks) would absorb them:
non-finite values are set to zero and the step is skipped. Outputs are checked as they are computed, the loss before the
backward pass. `step_guard.py` decides on the step.

Counting costs several passes over the logits and reading the count makes the host wait for the device. On a CPU reading is
free, so there a sum comes first (one pass, at the speed of memory) and only a sum that is not finite is followed by the count;
elsewhere the counts stay on the device until the decision.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from callbacks.step_guard import SHOWN, StepGuard

#: Fields of a batch that networks or losses read as numbers; others may hold NaN (`TextBatch.floors`: unknown).
INPUTS = ("images", "mel", "waveform", "weights")
#: Devices whose numbers are read without waiting.
FREE_TO_READ = ("cpu",)
Pick = Callable[[Tensor], Tensor]
Names = dict[str, Pick]


def _all(output: Tensor) -> Tensor:
    return output


def _talker(model: Any) -> list[tuple[nn.Module, Names]]:
    return [(head, {f"Talker {'residual' if number else 'base'}": _all}) for number, head in enumerate(model.heads)]


#: Registered architecture -> modules whose output is watched, and what of it by its name in messages. Logits are the head's
#: output: a stage may call the head by itself. A ViT's CLS comes first, then its grid.
WATCHED: dict[str, Callable[[Any], list[tuple[nn.Module, Names]]]] = {
    "thinker": lambda model: [(model.head, {"Thinker": _all})],
    "talker": _talker,
    "audio": lambda model: [(model.encoder.transformer.norm, {"audio encoder": _all})],
    "vision": lambda model: [(model.transformer.norm, {"ViT CLS": lambda x: x[:, :1], "ViT grid": lambda x: x[:, 1:]})],
    "conv_vision": lambda model: [(model.norm, {"conv encoder": _all})],
    "text_tower": lambda model: [
        (model.pooled_head, {"text tower": _all}), (model.token_head, {"text tower tokens": _all})
    ],
    "codec": lambda model: [(model.decoder, {"codec": _all})],
    "fourier_codec": lambda model: [(model.synthesis, {"codec": _all})],
    "vocoder": lambda model: [(model.head, {"vocoder": _all})],
}  # fmt: skip


def count_broken(x: Tensor) -> Tensor:
    """(2) long on x's device: how many NaN and how many Inf it holds, counted without waiting for the device."""
    return torch.stack([x.isnan().sum(), x.isinf().sum()])


def known_whole(x: Tensor) -> bool:
    """Whether all numbers are finite and that is known without waiting: the sum is finite, on a device that is free to read.

    By a product with ones, which reads memory half as fast again as `Tensor.sum`.
    """
    if x.device.type not in FREE_TO_READ:
        return False
    if x.dim() > 1 and x.numel():
        x = x.reshape(-1, x.shape[-1]) @ x.new_ones(x.shape[-1])
    return math.isfinite(x.sum(dtype=torch.float32).item())


@dataclass(slots=True)
class Findings:
    """Findings of one batch: counts (NaN, Inf) by name, and its loss."""

    samples: list[str]
    counts: dict[str, Tensor] = field(default_factory=dict)
    loss: Tensor | None = None

    def add(self, name: str, x: Tensor) -> None:
        """Count x; counts of the same name are added."""
        counts = count_broken(x)
        self.counts[name] = self.counts[name] + counts if name in self.counts else counts


class FiniteGuard(StepGuard):
    """Skips a step whose inputs, outputs or loss are not finite, and names the module: `Numerical instability in Thinker: NaN=3,
    Inf=0`.

    Args:
        max_loss: bound on the absolute value of the loss.
        patience: see `StepGuard`.
    """

    name = "finite_guard"

    def __init__(self, *, max_loss: float, patience: int) -> None:
        super().__init__(patience=patience)
        self.max_loss = max_loss
        self._window: list[Findings] = []
        self._outputs: list[tuple[Names, Tensor]] = []
        self._active = False
        self._hooks = ExitStack()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for model in pl_module.modules():
            for module, names in WATCHED.get(getattr(model, "architecture", ""), lambda _: [])(model):
                self._hooks.callback(module.register_forward_hook(self._hook(names)).remove)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hooks.close()

    def _hook(self, names: Names) -> Callable[[nn.Module, Any, Tensor], None]:
        def note(module: nn.Module, arguments: Any, output: Tensor) -> None:
            if not self._active:
                return
            if torch.compiler.is_compiling():  # reading would break the graph
                self._outputs.append((names, output.detach()))
            else:  # at once: an output that is kept costs the loss fresh memory
                self._examine(names, output.detach())

        return note

    def _examine(self, names: Names, output: Tensor) -> None:
        if not known_whole(output):
            for name, pick in names.items():
                self._window[-1].add(name, pick(output))

    def forget(self) -> None:
        self._window.clear()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Check the inputs and set non-finite values to zero, so that no moving average absorbs them."""
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        findings = Findings(list(batch.sample_ids))
        self._window.append(findings)
        for name in INPUTS:
            value = getattr(batch, name, None)
            if value is not None and not known_whole(value):
                findings.add(f"input {name}", value)
                value.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        self._outputs.clear()
        self._active = True

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Check the outputs of compiled modules, and release them: the backward pass needs the memory. (`loss` is scaled;
        the stage keeps it as it was.)"""
        self._active = False
        for names, output in self._outputs:
            self._examine(names, output)
        self._outputs.clear()
        self._window[-1].loss = pl_module.losses.get("loss")  # type: ignore[union-attr, operator]

    def statistic(self, pl_module: LightningModule, optimizer: Optimizer) -> Tensor:
        """Count of non-finite values in the step."""
        total = torch.zeros((), device=pl_module.device)
        for findings in self._window:
            for counts in findings.counts.values():
                total = total + counts.sum()
            if findings.loss is not None:
                total = total + ~(findings.loss.abs() <= self.max_loss)
        return total

    def reason(self, own: float, worst: float) -> str | None:
        """The findings of this rank, by batch if there are several; or that another rank had some."""
        if not worst:
            return None
        if not own:
            return "Numerical instability on another rank"
        found = []
        for findings in self._window:
            texts = self._texts(findings)
            if len(self._window) > 1 and texts:
                texts.append(f"in the batch of {', '.join(findings.samples[:SHOWN])}")
            found += texts
        return "; ".join(found)

    def _texts(self, findings: Findings) -> list[str]:
        texts = []
        for name, counts in findings.counts.items():
            nan, inf = counts.tolist()
            if nan or inf:
                texts.append(f"Numerical instability in {name}: NaN={nan}, Inf={inf}")
        if findings.loss is not None:
            loss = float(findings.loss)
            if not abs(loss) <= self.max_loss:
                texts.append(f"loss {loss:g} is not within {-self.max_loss:g} and {self.max_loss:g}")
        return texts
