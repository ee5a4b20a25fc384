"""Norms by module at the logging interval: gradients, weights, and what a step changes of them.

    <stage>/train/gradient_norm_<module>   before clipping
    <stage>/train/weight_norm_<module>     after the step
    <stage>/train/update_norm_<module>     of the difference that the step made
    <stage>/train/update_ratio_<module>    the last by the one before it: about 1e-3 where learning goes well

Modules are those of the model (embedding, transformer, head, ...) and the stage's others. The trained weights are copied for the
step that is logged, in memory that the gradients' peak has left free or not: `callbacks.norms=null` does without. Norms stay
on the device until the loggers read them. Other steps are not touched.
"""

from collections import defaultdict
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

SMALL = 1e-12  # a weight norm that a ratio is not taken of


def by_module(stage: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The trained parameters by the model's modules, and by the stage's others."""
    groups: dict[str, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in stage.named_parameters():
        if parameter.requires_grad:
            first, *rest = name.split(".")
            groups[rest[0] if first == "model" and len(rest) > 1 else first].append(parameter)
    return dict(groups)


def total_norm(tensors: list[Tensor]) -> Tensor:
    """Of all together; of sharded ones the whole."""
    norm = get_total_norm(tensors)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def differences(after: list[Tensor], before: list[Tensor]) -> list[Tensor]:
    """One by one, in one kernel where nothing is sharded."""
    if any(isinstance(each, DTensor) for each in after):
        return [a - b for a, b in zip(after, before, strict=True)]
    return list(torch._foreach_sub(after, before))


class Norms(Callback):
    """Logs the norms; after the guards, which may have dropped the gradients."""

    def __init__(self) -> None:
        self._before: dict[str, list[Tensor]] = {}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Norms of the gradients, and a copy of the weights."""
        if (trainer.global_step + 1) % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        norms: dict[str, Tensor] = {}
        for name, parameters in by_module(pl_module).items():
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            if gradients:
                norms[f"{pl_module.name}/train/gradient_norm_{name}"] = total_norm(gradients)
            self._before[name] = [parameter.detach().clone() for parameter in parameters]
        pl_module.log_dict(norms)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Norms of the weights and of what has changed."""
        if not self._before or trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        norms: dict[str, Tensor] = {}
        for name, parameters in by_module(pl_module).items():
            weights = [parameter.detach() for parameter in parameters]
            weight, update = total_norm(weights), total_norm(differences(weights, self._before.pop(name)))
            norms |= {f"weight_norm_{name}": weight, f"update_norm_{name}": update}
            norms[f"update_ratio_{name}"] = update / weight.clamp_min(SMALL)
        self._before = {}
        pl_module.log_dict({f"{pl_module.name}/train/{name}": norm for name, norm in norms.items()})
