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
    layer_drop: probability that a row skips the last block of a trained transformer (muomni/nn/transformer.py).
    label_smoothing: share of the targets that is spread over all classes, in training.
    text_form: of the texts, for the export (muomni/frontends/text_form.py).
    """

    optimizer: OptimizerFactory
    schedule: ScheduleFactory
    weight_decay: float
    loss_weights: Mapping[str, float]
    compile_model: bool
    activation_checkpointing: bool = False
    layer_drop: float = 0.0
    label_smoothing: float = 0.0
    text_form: str | None = None
