"""Augmentation of images: their position and their contrast. A pure function of its generator.

Legend: S image side.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from muomni import aliases


@dataclass(frozen=True, kw_only=True)
class ImageAugment:
    """Callable: image (3, S, S), normalised -> another of the same shape.

    shift: pixels that it moves each way at most; its edge is repeated into the space that opens. contrast: largest relative
    change of the distance from its mean (0.2 is +-20 %).
    """

    shift: int
    contrast: float

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Augment one image."""
        side = image.shape[-1]
        down, right = (int(rng.integers(-self.shift, self.shift + 1)) for _ in range(2))
        index = torch.arange(side)
        rows, columns = (index - down).clamp(0, side - 1), (index - right).clamp(0, side - 1)
        moved = image[:, rows][:, :, columns]
        mean = moved.mean()
        return mean + (moved - mean) * float(1 + rng.uniform(-self.contrast, self.contrast))


def __getattr__(name: str) -> Any:
    return aliases.attribute(__name__, name)
