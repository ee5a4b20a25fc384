"""Codebooks that nothing teaches: their loss is missing, has no weight or is zero, or their averages stand still.

Legend: K codebooks, E entries, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import filter as matching
from typing import Any

from torch import Tensor

from callbacks.symptoms.base import CODECS, Symptom, learns


@dataclass(kw_only=True)
class LostCodebooks(Symptom):
    """A loss of `losses` is missing or zero, or the codebooks of a codec that follow averages have not moved, in `times`
    examined steps in a row.

    losses: that a stage must have, by stage; "codebook_*" stands for all of `stage.loss_names` that match.
    """

    losses: Mapping[str, Sequence[str]]
    times: int
    _missed: dict[str, int] = field(default_factory=dict, init=False)
    _before: Tensor | None = field(default=None, init=False)

    def finding(self, stage: Any, batch: Any) -> str | None:
        """The first of both, the losses first."""
        wrong = {name: self._why(stage, name) for name in self._wanted(stage)}
        found = {f"the loss {name} {why}": True for name, why in wrong.items() if why}
        found |= {f"codebook {k} does not move: its averages stand still": True for k in self._unmoved(stage)}
        self._missed = {what: self._missed.get(what, 0) + 1 for what in found}
        lasting = [what for what, times in self._missed.items() if times >= self.times]
        if not lasting:
            return None
        return (
            f"a codebook is not taught: {', '.join(lasting[:4])}. Let step() return the loss of each codebook, with a weight "
            "(module.training.loss_weights); codebooks that follow averages (backbone.codec.decay) need the quantizer in "
            "training mode"
        )

    def _wanted(self, stage: Any) -> list[str]:
        names = [each for pattern in self.losses.get(stage.name, []) for each in matching(stage.loss_names, pattern)]
        heads = getattr(stage.model, "num_codebooks", 0) if stage.name == "talker" else 0
        return list(dict.fromkeys([*names, *(f"codebook_{k}" for k in range(heads))]))

    def _why(self, stage: Any, name: str) -> str | None:
        if name not in stage.losses:
            return "is missing"
        if not stage.loss_weights.get(name, 1.0):
            return "has a weight of 0"
        return None if float(stage.losses[name]) else "is exactly 0"

    def _unmoved(self, stage: Any) -> list[int]:
        """Codebooks that are the same as at the last examined step."""
        codec = next((module for module in stage.modules() if learns(module, *CODECS)), None)
        if codec is None or codec.quantizer.decay is None:
            return []
        now, before = codec.quantizer.codebooks.detach().clone(), self._before
        self._before = now
        if before is None:
            return []
        return [k for k, same in enumerate((now == before).flatten(1).all(dim=1).tolist()) if same]
