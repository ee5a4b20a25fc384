"""CTC that predicts nothing but blanks."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from callbacks.symptoms.base import Observe, Symptom, learns


@dataclass(kw_only=True)
class StuckOnBlank(Symptom):
    """CTC predicts only blanks: the trivial minimum in which audio encoders get stuck.

    share: share of blank frames, in (0, 1], from which it is a finding.
    """

    share: float
    _blank: Tensor | None = field(default=None, init=False)

    def observer(self, module: nn.Module) -> Observe | None:
        return self._observe if learns(module, "audio") else None

    def _observe(self, arguments: tuple[Any, ...], output: Any) -> None:
        keep = torch.arange(output.logits.shape[1], device=output.logits.device) < output.lengths[:, None]
        self._blank = ((output.logits.argmax(-1) == 0) & keep).sum() / keep.sum().clamp_min(1)

    def finding(self, stage: Any, batch: Any) -> str | None:
        if self._blank is None:
            return None
        share, self._blank = float(self._blank), None
        if share < self.share:
            return None
        return (
            f"CTC is stuck on blank: {100 * share:.1f} % of the frames say nothing. Lower optim.lr or raise "
            "schedule.warmup_steps; look whether the texts belong to the clips (samples/), and whether clips are long enough "
            "for them (audio/train/too_short)"
        )
