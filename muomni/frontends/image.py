"""Pictures: file -> uint8 -> normalised square float, the same in training and at inference.

Shapes: B pictures, H W pixels, S the side that the encoder sees.
"""

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

MAX_PIXELS = 64 * 1024 * 1024  # a 17 KB file can open at 12000 x 12000: the header is checked before decoding
MATTE = (0, 0, 0)  # what shows through transparent pixels
FITS = ("crop", "letterbox")
Read = TypeVar("Read")


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """What the encoder sees. Saved with every export; two specs that differ do not mix."""

    size: int  # S
    mean: tuple[float, float, float]  # of each channel in [0, 1]
    std: tuple[float, float, float]
    fit: str = "crop"  # crop: the centre square; letterbox: the whole picture, the rest at the mean

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if self.size < 1 or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"image: size >= 1 and three means and positive deviations are needed, not {self}")
        if self.fit not in FITS:
            raise ValueError(f"image: unknown fit {self.fit!r}; available: {', '.join(FITS)}")

    def facts(self) -> dict[str, object]:
        """The spec as plain values, for an export and for comparing."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}


def read_image(path: str | Path) -> Tensor:
    """Read a picture file as uint8 (3, H, W): any mode becomes RGB, an animated one gives its first frame.

    Raises FileNotFoundError, or ValueError for a corrupt file or one above 64 megapixels; both name the file.
    """
    return _opened(Path(path), pixels_of)


def check_image(path: str | Path) -> None:
    """Raise what `read_image` would, several times faster: of a JPEG all bytes are read, but not all pixels made."""
    _opened(Path(path), _load_small)


def _load_small(picture: Image.Image) -> None:
    picture.draft("RGB", (1, 1))  # the smallest scale at which JPEG decodes; other formats know none
    picture.load()
    if picture.mode == "F":
        _white(np.asarray(picture))


def _opened(path: Path, read: Callable[[Image.Image], Read]) -> Read:
    """What `read` makes of an opened picture; its errors name the file."""
    if not path.is_file():
        raise FileNotFoundError(f"no such image file: {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is stricter
            with Image.open(path) as picture:
                check_pixels(path, picture)
                try:
                    return read(picture)
                except FloatRangeError as error:
                    raise ValueError(f"the image {path}: {error}") from error
    except Image.DecompressionBombError as error:  # Pillow's own limit, which comes before ours
        raise ValueError(f"the image {path} is too large: at most {MAX_PIXELS} pixels; shrink it") from error
    except (UnidentifiedImageError, OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"cannot read {path} as an image: {error}") from error


def check_pixels(path: Path, picture: Image.Image) -> None:
    """Raise ValueError where the header promises more pixels than we decode."""
    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError(
            f"the image {path} is too large: {picture.width} x {picture.height}, at most {MAX_PIXELS} pixels; shrink it"
        )


class FloatRangeError(ValueError):
    """A picture of numbers from which no one can tell what is white."""


def pixels_of(picture: Image.Image) -> Tensor:
    """A Pillow image of any mode -> uint8 (3, H, W), upright as its EXIF orientation says.

    Floats from 0 to 1 are shares of white, up to 255 and 65535 the levels of 8 and 16 bits; others raise ValueError.
    """
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode in ("I;16", "I;16L", "I;16B", "I", "F"):  # Pillow would clip 16 bits to white, and floats to black
        grey = np.asarray(picture, dtype=np.float32)
        grey = np.rint(grey * (255.0 / _white(grey))) if picture.mode == "F" else grey / 257.0
        rgb = np.repeat(grey.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    else:
        if "A" in picture.getbands() or "transparency" in picture.info:
            layer = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", layer.size, (*MATTE, 255)), layer)
        rgb = np.array(picture.convert("RGB"))
    return torch.from_numpy(rgb).permute(2, 0, 1).contiguous()


def _white(grey: np.ndarray) -> float:
    """The number that is white in a picture of floats: the smallest of the usual ones that all of it stays below."""
    least, most = float(grey.min()), float(grey.max())
    for white in (1.0, 255.0, 65535.0):
        if least >= 0 and most <= white:  # never of NaN
            return white
    raise FloatRangeError(
        f"its floats go from {least:.4g} to {most:.4g}; they are read where they stay within 0..1, 0..255 or 0..65535"
    )


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
