"""Images: uint8 -> normalised square float, the same in training and at inference. Files: `image_file.py`.

Shapes: B images, H W pixels, S side of the encoder's input.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from muomni.frontends.image_file import MATTES, check_image, image_to_tensor, read_image

__all__ = ["ImageFrontend", "ImageSpec", "check_image", "image_to_tensor", "read_image"]

FITS = ("crop", "letterbox")


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """The encoder's input. Saved with every export; two specs that differ do not mix."""

    size: int  # S
    mean: tuple[float, float, float]  # of each channel in [0, 1]
    std: tuple[float, float, float]
    fit: str = "crop"  # crop: the centre square; letterbox: the whole image, the rest at the mean
    matte: str = "black"  # what shows through transparent pixels; these two: of exports that do not say

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if self.size < 1 or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"image: size >= 1 and three means and positive deviations are needed, not {self}")
        if self.fit not in FITS:
            raise ValueError(f"image: unknown fit {self.fit!r}; available: {', '.join(FITS)}")
        if self.matte not in MATTES:
            raise ValueError(f"image: unknown matte {self.matte!r}; available: {', '.join(MATTES)}")

    def cropped_share(self, height: int, width: int) -> float:
        """The share of an image of this shape that is cropped away."""
        return 1 - min(height, width) / max(height, width) if self.fit == "crop" else 0.0

    def metadata(self) -> dict[str, object]:
        """The spec as plain values, for an export and for comparing."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}


class ImageFrontend:
    """Callable: uint8 (3, H, W) or (B, 3, H, W) -> float32 (3, S, S) or (B, 3, S, S), normalised."""

    def __init__(self, spec: ImageSpec) -> None:
        self.spec = spec
        self.mean = torch.tensor(spec.mean).view(1, 3, 1, 1)
        self.std = torch.tensor(spec.std).view(1, 3, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Raises ValueError unless the pixels are uint8 with three channels."""
        if pixels.dtype != torch.uint8 or pixels.dim() not in (3, 4) or pixels.shape[-3] != 3 or not pixels.numel():
            raise ValueError(f"image: uint8 (3, H, W) is needed, not {pixels.dtype} {tuple(pixels.shape)}")
        batch = pixels if pixels.dim() == 4 else pixels[None]
        mean, std = self.mean.to(batch.device), self.std.to(batch.device)
        square = (self._fit(batch).float() / 255.0 - mean) / std
        if square.shape[-1] != square.shape[-2]:  # letterbox: zero is the mean
            height, width = square.shape[-2:]
            top, left = (self.spec.size - height) // 2, (self.spec.size - width) // 2
            square = F.pad(square, (left, self.spec.size - width - left, top, self.spec.size - height - top))
        return square if pixels.dim() == 4 else square[0]

    def _fit(self, batch: Tensor) -> Tensor:
        """Resize: to the centre square of side S, or (letterbox) so that the longer side is S."""
        height, width = batch.shape[-2:]
        size = self.spec.size
        if self.spec.fit == "crop" and height != width:
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            batch = batch[..., top : top + side, left : left + side]
            height = width = side
        longer = max(height, width)
        target = (max(1, round(height * size / longer)), max(1, round(width * size / longer)))
        if target == (height, width):
            return batch
        resized = F.interpolate(batch.float(), size=target, mode="bilinear", antialias=True, align_corners=False)
        return resized.clamp(0, 255)
