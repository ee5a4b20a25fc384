"""Modules that should train and cannot: their parameters require no gradient, or their learning rate is 0."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from callbacks.symptoms.base import Symptom
from callbacks.symptoms.naming import modules_of


@dataclass(kw_only=True)
class FrozenModules(Symptom):
    """A stage says what it trains (`trained_modules`, with a rate above 0) and what stays frozen (`keep_frozen`, a rate of 0,
    adapters). Whatever else is frozen should train. Codebooks that follow averages need no gradient."""

    def finding(self, stage: Any, batch: Any) -> str | None:
        trained = [module for _, module, rate in stage.trained_modules() if rate]
        meant = {id(p) for module in stage.frozen_modules if module not in trained for p in module.parameters()}
        meant |= {id(p) for _, module, rate in stage.trained_modules() if not rate for p in module.parameters()}
        meant |= {id(module.codebooks) for module in stage.modules() if _averages(module)}
        meant |= {id(p) for p in getattr(stage, "frozen_parameters", ())}  # of modules with adapters
        wanted = {id(p) for module in trained for p in module.parameters()} - meant
        names = {name: p for name, p in stage.named_parameters() if id(p) in wanted}
        frozen = [name for name, parameter in names.items() if not parameter.requires_grad]
        if frozen:
            return (
                f"{modules_of(frozen, names)} should train and is frozen ({len(frozen)} of {len(names)} parameters require no "
                "gradient). Take the requires_grad_(False) away, or say that it stays so: a rate of 0 "
                "(module.lr_multipliers), or keep_frozen"
            )
        still = [
            group.get("name", "a group")
            for optimizer in stage.trainer.optimizers
            for group in optimizer.param_groups
            if not group.get("initial_lr", group["lr"])
        ]
        if still:
            return f"{', '.join(still)} should train and has a learning rate of 0: raise optim.lr or optim.adam_ratio"
        return None


def _averages(module: nn.Module) -> bool:
    """Whether its codebooks follow averages instead of gradients."""
    return getattr(module, "codebooks", None) is not None and getattr(module, "decay", None) is not None
