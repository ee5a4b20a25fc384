"""Augmentation of pictures: where they stand in their frame, and their contrast. A pure function of its generator.

Legend: S image side.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ImageAugment:
    """Callable: picture (3, S, S), normalised -> another of the same shape.

    shift: most pixels that it moves each way; its edge goes on into what opens up. contrast: largest relative change of the
    distance from its mean (0.2 is +-20 %).
    """

    shift: int
    contrast: float

    def __call__(self, picture: Tensor, rng: np.random.Generator) -> Tensor:
        """Augment one picture."""
        side = picture.shape[-1]
        down, right = (int(rng.integers(-self.shift, self.shift + 1)) for _ in range(2))
        place = torch.arange(side)
        rows, columns = (place - down).clamp(0, side - 1), (place - right).clamp(0, side - 1)
        moved = picture[:, rows][:, :, columns]
        mean = moved.mean()
        return mean + (moved - mean) * float(1 + rng.uniform(-self.contrast, self.contrast))
