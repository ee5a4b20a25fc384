"""Parameters that no step changes, since no optimizer has them, or that two groups change."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from callbacks.symptoms.base import Symptom
from callbacks.symptoms.naming import modules_of


@dataclass(kw_only=True)
class WithoutOptimizer(Symptom):
    """A parameter that requires a gradient is in no group of the optimizer, or in two."""

    def finding(self, stage: Any, batch: Any) -> str | None:
        held = Counter(
            id(parameter)
            for optimizer in stage.trainer.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        )
        trained = {name: parameter for name, parameter in stage.named_parameters() if parameter.requires_grad}
        missed = [name for name, parameter in trained.items() if not held[id(parameter)]]
        if missed:
            return (
                f"the optimizer misses {modules_of(missed, trained)} ({len(missed)} of {len(trained)} parameters): they "
                "require a gradient, and no step changes them. Let the stage's trained_modules() name their module, or freeze "
                "them (keep_frozen)"
            )
        doubled = [name for name, parameter in trained.items() if held[id(parameter)] > 1]
        if doubled:
            return (
                f"the optimizer has {modules_of(doubled, trained)} in two groups: each step changes them twice. Build the "
                "groups by muomni.optim.groups.parameter_groups"
            )
        return None
