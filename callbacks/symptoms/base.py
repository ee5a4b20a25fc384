"""What a symptom is: hooks for the modules of a model, a look at the gradients, and a finding."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

Observe = Callable[[tuple[Any, ...], Any], None]


@dataclass(kw_only=True)
class Symptom(ABC):
    """What the doctor looks for. Only `finding` and `examine_gradients` may wait for the device.

    patience: steps for which the finding must last before it is an alarm; a healthy run has some of them at its start. 0: it
    is one at once, and said once.
    """

    patience: int

    def observer(self, module: nn.Module) -> Observe | None:
        """Hook for the positional arguments and the output of a module, or None."""
        return None

    def examine_gradients(self, stage: Any, batch: Any) -> None:
        """Look at the gradients of the step being examined, before the optimizer uses them."""
        return

    @abstractmethod
    def finding(self, stage: Any, batch: Any) -> str | None:
        """Problem of the step just examined, with its remedy, or None."""


#: Registered codecs that stage=codec trains.
CODECS = ("codec", "fourier_codec")


def learns(module: nn.Module, *architectures: str) -> bool:
    """Whether a module is registered under one of the names and has trained weights."""
    return getattr(module, "architecture", None) in architectures and any(p.requires_grad for p in module.parameters())
