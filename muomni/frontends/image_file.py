"""Image files and Pillow images -> uint8 pixels: the only file of the project that decodes other people's images.

Pillow opens the formats of `FORMATS` alone: others start programs (EPS: Ghostscript) or crash on damaged bytes. The header is
checked before anything is decoded, and whatever a decoder raises becomes one line that names the file.

Shapes: H W pixels.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import (  # the plugins of FORMATS: where one is lacking, Pillow imports all forty
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageCms,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)
from torch import Tensor

from muomni.frontends.memory_file import File, existing

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
FORMAT_NAMES = "JPEG, PNG, WebP, GIF, BMP, TIFF or PPM"
MAX_PIXELS = 64 * 1024 * 1024  # a 17 KB file can open at 12000 x 12000: the header is checked before decoding
MATTES = {"black": (0, 0, 0), "white": (255, 255, 255)}  # what shows through transparent pixels
DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # Pillow would clip 16 bits to white, and floats to black
ORIENTATION = 0x0112  # the EXIF tag
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: np.rot90,
}  # fmt: skip
Read = TypeVar("Read")


class MediaError(ValueError):
    """An error whose one line names the file already."""


class PixelError(ValueError):
    """Pixels that have no known scale; the message lacks the file's name."""


def read_image(path: File, *, matte: str = "white") -> Tensor:
    """Read an image file as uint8 (3, H, W), as `image_to_tensor` does; of an animated one the first frame.

    Raises FileNotFoundError, or ValueError for a corrupt file, another format, or one above 64 megapixels; all name it.
    """
    return open_image(path, lambda image: image_to_tensor(image, matte=matte))


def check_image(path: File) -> None:
    """Raise what `read_image` would, several times faster: of a JPEG all bytes are read, but not all pixels made."""
    open_image(path, _read_small)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Of an image file: pixels, Pillow's mode ("RGB", "L", ..) and the format by its bytes."""

    width: int
    height: int
    mode: str
    format: str


def inspect_image(path: File) -> ImageFacts:
    """What an image file holds; all of it is read. Raises what `read_image` would."""

    def read(image: Image.Image) -> ImageFacts:
        facts = ImageFacts(image.width, image.height, image.mode, str(image.format))  # before it is decoded smaller
        _read_small(image)
        return facts

    return open_image(path, read)


def _read_small(image: Image.Image) -> None:
    image.draft("RGB", (1, 1))  # the smallest scale at which JPEG decodes; other formats know none
    image_to_tensor(image)


def open_image(path: File, read: Callable[[Image.Image], Read], *, what: str = "an image") -> Read:
    """What `read` makes of an opened image; errors of a decoder are ValueErrors that name the file."""
    path = existing(path, what="video" if what == "a video" else "image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images (our own limit is stricter) and of damaged tags
            with Image.open(path, formats=FORMATS) as image:
                check_pixels(image)
                return read(image)
    except MediaError:
        raise
    except PixelError as error:
        raise ValueError(f"the image {path} {error}") from error
    except Image.DecompressionBombError as error:  # Pillow's own limit, which comes before ours
        raise ValueError(f"the image {path} is too large: at most {MAX_PIXELS} pixels; shrink it") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"cannot read {path} as {what}: it is no {FORMAT_NAMES} file") from error
    except Exception as error:  # decoders raise whatever damaged bytes lead them to
        raise ValueError(f"cannot read {path} as {what}: {in_one_line(error)}") from error


def in_one_line(error: Exception) -> str:
    """An error's first line, or its name where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def check_pixels(image: Image.Image) -> None:
    """Raise PixelError where the header promises more pixels than we decode."""
    if image.width * image.height > MAX_PIXELS:
        raise PixelError(f"is too large: {image.width} x {image.height}, at most {MAX_PIXELS} pixels; shrink it")


def image_to_tensor(image: Image.Image, *, matte: str = "white") -> Tensor:
    """A Pillow image of any mode -> uint8 (3, H, W): upright as its EXIF orientation says, in sRGB where it has a colour
    profile, transparent pixels on the matte. The image itself stays as it is.

    16 bits keep their brightness. Floats from 0 to 1 are shares of white, up to 255 and 65535 the levels of 8 and 16 bits;
    others raise ValueError.
    """
    image.load()
    pixels = _rgb(image, MATTES[matte])
    turn = _TURNS.get(_orientation(image))
    if turn is not None:
        pixels = turn(pixels)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF has it; 1 where there is none, or none that can be read."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # tags of any type and any damage; an image is read without them
        return 1
    return value if isinstance(value, int) else 1


def _rgb(image: Image.Image, matte: tuple[int, int, int]) -> np.ndarray:
    """(H, W, 3) uint8, not turned yet."""
    if image.mode in DEEP:
        grey: np.ndarray = np.asarray(image, dtype=np.float32)
        grey = np.rint(grey * (255.0 / _white(grey))) if image.mode == "F" else _sixteen_bits(grey) / 257.0
        return np.repeat(grey.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode == "La":
        image = image.convert("LA")
    bands = image.getbands()
    if "A" in bands or "a" in bands or "transparency" in image.info:
        layer = _to_srgb(image.convert("RGBA"), image.info.get("icc_profile"))
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (*matte, 255)), layer)
    else:
        plain = image if image.mode in ("RGB", "L", "CMYK") else image.convert("RGB")
        image = _to_srgb(plain, image.info.get("icc_profile"))
    return np.array(image.convert("RGB"))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image in the colours of a screen; as it is where it has no profile, or none that fits it."""
    if not profile:
        return image
    colours = image.convert("RGB") if image.mode == "RGBA" else image
    try:
        transform = _transform(profile, colours.mode)
        if transform is None:
            return image
        converted: Any = ImageCms.applyTransform(colours, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # a damaged profile, or one of other channels
        return image
    if image.mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> Any:
    """From a profile to sRGB; None where it is sRGB."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if "sRGB" in ImageCms.getProfileDescription(source):
        return None
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")


def _sixteen_bits(grey: np.ndarray) -> np.ndarray:
    least, most = float(grey.min()), float(grey.max())
    if least < 0 or most > 65535:
        raise PixelError(f"holds whole numbers from {least:.4g} to {most:.4g}: 16 bits, 0..65535, are read")
    return grey


def _white(grey: np.ndarray) -> float:
    """The number that is white in an image of floats: the smallest of the usual ones that all of it stays below."""
    least, most = float(grey.min()), float(grey.max())
    for white in (1.0, 255.0, 65535.0):
        if least >= 0 and most <= white:  # never of NaN
            return white
    raise PixelError(
        f"cannot be read: its floats go from {least:.4g} to {most:.4g}; they are read where they stay within 0..1, 0..255 or "
        "0..65535"
    )
