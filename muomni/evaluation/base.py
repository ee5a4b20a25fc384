"""What every evaluator shares: it measures a model on one held-out split after the other.

    evaluator.reset(split)
    for batch in split: evaluator.update(batch)
    metrics, examples = evaluator.compute(), evaluator.examples

All that it gathers of a split is in `state`, a dataclass without models. Several processes, each of which has batches of its own,
exchange their states as objects and `merge` them in the order of their ranks: the merged state is what one process would have
gathered. Models that only the measuring needs are loaded when a split needs them (checkpoints/deferred.py), not in training.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import nn

from muomni.evaluation.views import View

Example = dict[str, Any]


@dataclass(kw_only=True)
class State:
    """What was gathered of a split. Tensors are on the CPU and own their memory where several processes run: they are sent.

    examples: a few inputs, answers and truths, for loggers and report card (callbacks/samples.py).
    """

    examples: list[Example] = field(default_factory=list)


S = TypeVar("S", bound=State)


def add(mine: Any, theirs: Any) -> Any:
    """What two processes gathered, in place where it can be: dataclasses field by field, dictionaries name by name, numbers and
    tensors summed, lists one after the other; of two bools the second stays."""
    if is_dataclass(mine):
        for each in fields(mine):
            setattr(mine, each.name, add(getattr(mine, each.name), getattr(theirs, each.name)))
    elif isinstance(mine, dict):
        for name, value in theirs.items():
            mine[name] = add(mine.get(name, type(value)()), value)
    elif isinstance(mine, bool):
        return theirs
    else:
        mine += theirs
    return mine


@dataclass(eq=False, repr=False)
class Evaluator(ABC, Generic[S]):
    """Measures one stage's model.

    Args:
        model: what is measured, in evaluation mode and on its device whenever `update` is called.
    """

    model: nn.Module
    #: The class of `state`.
    state_type: ClassVar[type[State]]
    split: str = field(init=False)
    state: S = field(init=False)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def examples(self) -> list[Example]:
        """Of the current split; each names it as "split"."""
        return self.state.examples

    def show(self, batch: Any, row: int, **fields: Any) -> None:
        """Add a row of a batch to the examples."""
        self.examples.append({"split": self.split, "id": batch.sample_ids[row], **fields})

    def reset(self, split: str) -> None:
        """Begin with a split."""
        self.split, self.state = split, self.state_type()  # type: ignore[assignment]

    @abstractmethod
    def update(self, batch: Any) -> None:
        """Gather from one batch of the split."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Metric -> value of the split, once all of it was gathered."""

    def views(self, batch: Any) -> list[View]:
        """What is shown of the first rows of a held-out batch while training (callbacks/media.py)."""
        return []

    def merge(self, other: S) -> None:
        """Add what another process gathered of the batches that follow this one's."""
        add(self.state, other)
