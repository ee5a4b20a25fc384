"""A contrastive loss that stays at chance."""

import math
from dataclasses import dataclass
from typing import Any

from callbacks.symptoms.base import Symptom


@dataclass(kw_only=True)
class StuckAtChance(Symptom):
    """A contrastive loss stays at ln(batch): all images are equally similar to all captions.

    losses: names of the losses of `stage.losses`, by stage. margin: relative distance to ln(batch) that counts as chance.
    """

    losses: dict[str, list[str]]
    margin: float

    def finding(self, stage: Any, batch: Any) -> str | None:
        names = [name for name in self.losses.get(stage.name, []) if name in stage.losses]
        chance = math.log(max(len(batch.sample_ids), 2))
        at_chance = [n for n in names if abs(float(stage.losses[n]) - chance) < self.margin * chance]
        if not at_chance:
            return None
        return (
            f"contrastive loss {', '.join(at_chance)} is stuck at ln(batch) = {chance:.2f}: all pairs look alike. Look whether "
            "captions belong to their images and differ from each other; lower optim.lr, raise schedule.warmup_steps or "
            "datamodule.batch_size"
        )
