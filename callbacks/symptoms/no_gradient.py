"""Parameters that require a gradient and get none: a loss is missing, or something cuts the graph off.

Legend: K codebooks, E entries.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from callbacks.symptoms.base import Symptom
from callbacks.symptoms.naming import modules_of


@dataclass(kw_only=True)
class NoGradient(Symptom):
    """The gradient of a parameter is missing or exactly zero in `times` examined steps in a row. Codebooks that share a
    parameter are checked each by itself. What a batch does not reach (`optional_modules`: a modality it does not hold) is not
    counted, nor is a step that a guard has skipped.

    times: examined steps in a row; initial zeros and dropped layers let some of them have no gradient.
    """

    times: int
    _missed: dict[str, int] = field(default_factory=dict, init=False)

    def examine_gradients(self, stage: Any, batch: Any) -> None:
        used, optional = stage.used_modules(batch), stage.optional_modules()
        unused = {id(p) for name, module in optional.items() if name not in used for p in module.parameters()}
        groups = [group for optimizer in stage.trainer.optimizers for group in optimizer.param_groups]
        # Of adapters that have yet to start.
        unused |= {id(p) for group in groups if not group["lr"] for p in group["params"]}
        tables = dict(_tables(stage))
        names, norms = list[str](), list[Tensor]()
        zero = torch.zeros((), device=stage.device)
        for name, parameter in stage.named_parameters():
            if not parameter.requires_grad or id(parameter) in unused:
                continue
            count, gradient = tables.get(id(parameter), 1), parameter.grad
            if gradient is None or count == 1:
                names.append(name)
                norms.append(zero if gradient is None else _norm(gradient))
            else:
                names += [f"{name}[codebook {k}]" for k in range(count)]
                norms += [_norm(each) for each in gradient.view(count, -1)]
        found = torch.stack(norms).tolist() if norms else []
        if not any(found):  # a guard has skipped the step
            return
        for name, norm in zip(names, found, strict=True):
            self._missed[name] = 0 if norm else self._missed.get(name, 0) + 1

    def finding(self, stage: Any, batch: Any) -> str | None:
        missed = [name for name, times in self._missed.items() if times >= self.times]
        if not missed:
            return None
        return (
            f"no gradient reaches {modules_of(missed, self._missed)} ({len(missed)} of {len(self._missed)} parameters) in "
            f"{self.times} examined steps: a loss is missing or has a weight of 0 (module.training.loss_weights), or a "
            "detach() or no_grad() cuts it off"
        )


def _norm(gradient: Tensor) -> Tensor:
    norm = gradient.detach().norm()
    return (norm.full_tensor() if isinstance(norm, DTensor) else norm).float()


def _tables(stage: nn.Module) -> Iterator[tuple[int, int]]:
    """Parameters that hold the tables of K codebooks: (K, E, D), or an embedding (K * E, D)."""
    for module in stage.modules():
        count, entries = getattr(module, "num_codebooks", None), getattr(module, "codebook_size", None)
        if count is None or entries is None:
            continue
        for name, parameter in module.named_parameters():
            if parameter.shape[:2] == (count, entries) or (
                count > 1 and parameter.shape[0] == count * entries and "embedding" in name
            ):
                yield id(parameter), count
