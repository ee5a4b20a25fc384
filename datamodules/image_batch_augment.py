"""Augmentation of batches of normalised images: crops of random size, flips, shifts, colour, and a square cut out.

Each image's draws are a function of (seed, epoch, index), so that neither batch nor workers matter, and each step is one tensor
operation over the batch. With torch alone: torchvision has the same but for the alternating flip, draws for a whole batch at
once or image by image from a global generator, and would be a dependency for sixty lines.

Legend: B batch, S image side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.counter_rng import uniform

FLIPS = ("none", "random", "alternating")
DRAWS = 11  # of an image, whatever is on: turning one option on leaves the others' draws as they are
ASPECT = 4 / 3  # a crop's sides are at most this unlike


@dataclass(frozen=True, kw_only=True)
class ImageBatchAugment:
    """Callable: images (B, 3, S, S) float, normalised -> others of the same shape. What is off costs nothing.

    crop: smallest share of the area that a random crop keeps before it is resized to S (Szegedy et al. 2015,
        arXiv:1409.4842); 1 is off.
    flip: left and right: "random" in half of the cases, "alternating" in every other epoch, half of the images in the even
        ones (Jordan 2024, arXiv:2404.00498), or "none".
    shift: pixels that an image moves each way at most; its border is reflected into the space that opens.
    colour: largest relative change of brightness (in deviations), of contrast and of saturation; 0 is off.
    cutout: pixels a side of a square at a random place that becomes the mean (DeVries & Taylor 2017, arXiv:1708.04552).
    """

    crop: float = 1.0
    flip: str = "none"
    shift: int = 0
    colour: float = 0.0
    cutout: int = 0

    def __post_init__(self) -> None:
        if self.flip not in FLIPS:
            raise ValueError(f"datamodule.augment.flip={self.flip!r}; available: {', '.join(FLIPS)}")
        for name, least, most in (("crop", 0.05, 1), ("shift", 0, 4096), ("colour", 0, 1), ("cutout", 0, 4096)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise ValueError(f"datamodule.augment.{name}={value}: a number from {least} to {most} is needed")

    def __call__(self, images: Tensor, *, seed: int, epochs: Sequence[int], indices: Sequence[int]) -> Tensor:
        """epochs, indices: of each image. Raises ValueError for a shift that is no less than S."""
        if self.shift >= images.shape[-1]:
            raise ValueError(f"datamodule.augment.shift={self.shift}: images have {images.shape[-1]} pixels a side")
        draws = uniform(seed, epochs, indices, draws=DRAWS)
        if self.crop < 1:
            images = _cropped(images, draws[:, 0:4], least=self.crop)
        flipped = self._flipped(draws[:, 4], seed, epochs, indices)
        if self.shift or flipped.any():
            images = _moved(images, draws[:, 5:7], shift=self.shift, flipped=flipped)
        if self.colour:
            images = _coloured(images, draws[:, 7:10], strength=self.colour)
        if self.cutout:
            images = _cut_out(images, draws[:, 10], side=self.cutout)
        return images

    def _flipped(self, drawn: np.ndarray, seed: int, epochs: Sequence[int], indices: Sequence[int]) -> np.ndarray:
        if self.flip == "random":
            return drawn < 0.5
        if self.flip == "none":
            return np.zeros(len(drawn), dtype=bool)
        first = uniform(seed, [0] * len(indices), indices, draws=1)[:, 0] < 0.5
        return first ^ (np.asarray(epochs) % 2 == 1)


def _column(values: np.ndarray) -> Tensor:
    """(B) -> (B, 1, 1, 1) float32."""
    return torch.from_numpy(values).float()[:, None, None, None]


def _cropped(images: Tensor, draws: np.ndarray, *, least: float) -> Tensor:
    """A window of `least` to all of the area, its centre anywhere inside the image, bilinearly resized to the whole."""
    area = least + (1 - least) * draws[:, 0]
    aspect = np.exp((2 * draws[:, 1] - 1) * np.log(ASPECT))
    sides = np.minimum(np.sqrt(area[:, None] * np.stack([aspect, 1 / aspect], axis=1)), 1.0)
    centres = (2 * draws[:, 2:4] - 1) * (1 - sides)
    matrix = np.zeros((len(images), 2, 3), dtype=np.float32)
    matrix[:, (0, 1), (0, 1)], matrix[:, :, 2] = sides, centres
    grid = F.affine_grid(torch.from_numpy(matrix), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _moved(images: Tensor, draws: np.ndarray, *, shift: int, flipped: np.ndarray) -> Tensor:
    """Shift by whole pixels and flip, as one lookup of rows and columns."""
    side = images.shape[-1]
    offsets = np.minimum((draws * (2 * shift + 1)).astype(np.int64), 2 * shift) - shift
    taken = np.abs(np.arange(side)[None, None] + offsets[:, :, None])
    taken = np.where(taken >= side, 2 * (side - 1) - taken, taken)  # reflected without repeating the border
    rows, columns = taken[:, 0], taken[:, 1]
    columns = np.where(flipped[:, None], side - 1 - columns, columns)
    each = torch.arange(len(images))[:, None, None]
    moved = images[each, :, torch.from_numpy(rows)[:, :, None], torch.from_numpy(columns)[:, None, :]]  # B S S 3
    return moved.permute(0, 3, 1, 2)


def _coloured(images: Tensor, draws: np.ndarray, *, strength: float) -> Tensor:
    """Saturation: the distance from the image's grey; contrast: from its mean; brightness: added."""
    saturation, contrast, brightness = (_column((2 * each - 1) * strength) for each in draws.T)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * (1 + saturation)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (1 + contrast) + brightness


def _cut_out(images: Tensor, draws: np.ndarray, *, side: int) -> Tensor:
    """A square whose centre is any pixel, so that it may stand over the border. One draw holds both coordinates."""
    size = images.shape[-1]
    cell = np.minimum((draws * size * size).astype(np.int64), size * size - 1)
    pixels = np.arange(size)[None]
    inside = [
        (pixels >= at[:, None] - side // 2) & (pixels < at[:, None] - side // 2 + side) for at in divmod(cell, size)
    ]
    hidden = torch.from_numpy(inside[0][:, :, None] & inside[1][:, None, :])
    return images.masked_fill(hidden[:, None], 0.0)
