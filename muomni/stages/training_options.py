"""What every stage takes, whatever it trains."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]
ScheduleFactory = Callable[[Optimizer], LRScheduler]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """`module.training` of a configuration.

    optimizer: parameter groups -> optimizer. schedule: optimizer -> learning-rate schedule, one step a batch.
    weight_decay: of the groups that decay. loss_weights: by the names that `step` returns (`loss_names`); a missing one is 1.
    compile_model: compile (`compile_parts`) when training starts.
    activation_checkpointing: trained transformers compute their activations again instead of keeping them.
    """

    optimizer: OptimizerFactory
    schedule: ScheduleFactory
    weight_decay: float
    loss_weights: Mapping[str, float]
    compile_model: bool
    activation_checkpointing: bool = False
