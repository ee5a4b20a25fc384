"""Images: uint8 -> normalised square float, the same in training and at inference. Files: `image_file.py`.

An encoder trained elsewhere gets what it was trained on: Pillow's filters, which round to whole grey levels (`pil_bicubic`), an
image that is squashed to the square, or one whose shorter side is resized before the centre is cut out.

Shapes: B images, H W pixels, S side of the encoder's input.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from muomni.frontends.image_file import MATTES, check_image, image_to_tensor, read_image

__all__ = ["ImageFrontend", "ImageSpec", "check_image", "image_to_tensor", "read_image"]

FITS = ("crop", "letterbox", "squash")
PIL_FILTERS: Mapping[str, Image.Resampling] = {f"pil_{each.name.lower()}": each for each in Image.Resampling}
#: Of what exports of before do not say; such a value is not written, so that their metadata stay equal to today's.
UNSAID = {"interpolation": "bilinear", "resize": None}


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """The encoder's input. Saved with every export; two specs that differ do not mix."""

    size: int  # S
    mean: tuple[float, float, float]  # of each channel in [0, 1]
    std: tuple[float, float, float]
    fit: str = (
        "crop"  # the centre square; letterbox: the whole image, the rest at the mean; squash: the whole, distorted
    )
    matte: str = "black"  # what shows through transparent pixels; these two: of exports that do not say
    interpolation: str = (
        "bilinear"  # antialiased, in floats; pil_bicubic and other filters of Pillow: in whole grey levels
    )
    resize: int | None = None  # with crop: pixels of the shorter side before S are cut out; None: S

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if self.size < 1 or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"image: size >= 1 and three means and positive deviations are needed, not {self}")
        if self.fit not in FITS:
            raise ValueError(f"image: unknown fit {self.fit!r}; available: {', '.join(FITS)}")
        if self.matte not in MATTES:
            raise ValueError(f"image: unknown matte {self.matte!r}; available: {', '.join(MATTES)}")
        known = ("bilinear", *PIL_FILTERS)
        if self.interpolation not in known:
            raise ValueError(f"image: unknown interpolation {self.interpolation!r}; available: {', '.join(known)}")
        if self.resize is not None and (self.fit != "crop" or self.resize < self.size):
            raise ValueError(
                f"image: resize={self.resize} is the shorter side before a crop of {self.size}: at least that, and fit=crop"
            )

    def cropped_share(self, height: int, width: int) -> float:
        """The share of an image of this shape that is cropped away."""
        if self.fit != "crop":
            return 0.0
        side = min(height, width) * self.size / (self.resize or self.size)
        return 1 - side**2 / (height * width)

    def metadata(self) -> dict[str, object]:
        """The spec as plain values, for an export and for comparing."""
        plain = asdict(self) | {"mean": list(self.mean), "std": list(self.std)}
        return {key: value for key, value in plain.items() if key not in UNSAID or value != UNSAID[key]}


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
        """Resize: to S x S (crop, squash), or so that the longer side is S (letterbox)."""
        height, width = batch.shape[-2:]
        size, fit = self.spec.size, self.spec.fit
        if self.spec.resize is not None:
            return self._shorter_then_crop(batch, self.spec.resize)
        if fit == "crop" and height != width:
            side = min(height, width)
            batch = _centre(batch, side)
            height = width = side
        longer = max(height, width)
        target = (max(1, round(height * size / longer)), max(1, round(width * size / longer)))
        return self._resized(batch, (size, size) if fit == "squash" else target)

    def _shorter_then_crop(self, batch: Tensor, resize: int) -> Tensor:
        """The shorter side is `resize`, the longer one rounded down, as of Hugging Face's processors; then the centre."""
        height, width = batch.shape[-2:]
        shorter = min(height, width)
        target = tuple(resize if side == shorter else int(resize * side / shorter) for side in (height, width))
        return _centre(self._resized(batch, (target[0], target[1])), self.spec.size)

    def _resized(self, batch: Tensor, target: tuple[int, int]) -> Tensor:
        if target == tuple(batch.shape[-2:]):
            return batch
        if self.spec.interpolation in PIL_FILTERS:
            method = PIL_FILTERS[self.spec.interpolation]
            images = [Image.fromarray(image.permute(1, 2, 0).cpu().numpy()) for image in batch]
            arrays = np.stack([np.asarray(image.resize(target[::-1], method)) for image in images])
            return torch.from_numpy(arrays).permute(0, 3, 1, 2).to(batch.device)
        resized = F.interpolate(batch.float(), size=target, mode="bilinear", antialias=True, align_corners=False)
        return resized.clamp(0, 255)


def _centre(batch: Tensor, side: int) -> Tensor:
    """The centre square."""
    height, width = batch.shape[-2:]
    top, left = (height - side) // 2, (width - side) // 2
    return batch[..., top : top + side, left : left + side]
