"""What a user may give as an image or as audio: a file by its name, its bytes, an open file, an array or a tensor.

Shapes: H W pixels, N samples.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from muomni.frontends.memory_file import MemoryFile
from muomni.inference.errors import InvalidMedia

#: A file's name; the bytes of a file; a file opened by mode "rb"; an image of Pillow; pixels (H, W), (H, W, 3) or (H, W, 4) or
#: a waveform (N,) as an array; pixels (3, H, W) or a waveform (N,) as a tensor.
Source = str | Path | bytes | BinaryIO | MemoryFile | Image.Image | np.ndarray | Tensor
MAX_BYTES = 1 << 30  # of an open file: it may be a device that never ends
INTEGER_SCALES = {"int16": 2.0**15, "int32": 2.0**31}  # of waveforms


def in_memory(source: Any, *, what: str) -> Any:
    """bytes and open files -> `MemoryFile`, so that they can be read again; anything else as it is. what: "image" or "audio".
    Raises InvalidMedia for a file that is opened as text, empty, or too large."""
    if isinstance(source, bytes | bytearray | memoryview):
        return MemoryFile(bytes(source), name="<bytes>")
    if isinstance(source, MemoryFile | Image.Image | Tensor) or not hasattr(source, "read"):
        return source
    name = source.name if isinstance(getattr(source, "name", None), str) else "<file>"
    try:
        data = source.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise InvalidMedia(f"{what}: cannot read {name}: {error}", param=what) from error
    if not isinstance(data, bytes):
        raise InvalidMedia(f"{what}: {name} is opened as text: open it by mode 'rb'", param=what)
    if len(data) > MAX_BYTES:
        raise InvalidMedia(f"{what}: {name} holds over {MAX_BYTES} bytes", param=what)
    if not data:
        raise InvalidMedia(f"{what}: {name} has no bytes left: it is empty, or was read before", param=what)
    return MemoryFile(data, name=name)


def is_pieces(source: Any) -> bool:
    """True for an iterable of pieces of audio, as opposed to a `Source`."""
    whole = str | bytes | bytearray | memoryview | np.ndarray | Tensor
    return isinstance(source, Iterable) and not isinstance(source, whole) and not hasattr(source, "read")


def is_file(source: Any) -> bool:
    """True for a file on disk or in memory."""
    return isinstance(source, str | Path | MemoryFile)


def array_to_image(pixels: np.ndarray) -> Image.Image:
    """uint8 (H, W), (H, W, 1), (H, W, 3) in RGB or (H, W, 4) in RGBA -> a Pillow image. Raises InvalidMedia."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if pixels.dtype != np.uint8 or not fits or not pixels.size:
        raise InvalidMedia(
            f"image: an array uint8 (H, W, 3) is needed, not {pixels.dtype} {pixels.shape}; one of (3, H, W) is taken as "
            "torch.from_numpy(array)",
            param="image",
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def array_to_waveform(samples: np.ndarray, *, rate: int) -> Tensor:
    """(N,) float in [-1, 1], int16 or int32 -> float32 (N,). rate: Hz, for the message. Raises InvalidMedia."""
    scale = INTEGER_SCALES.get(samples.dtype.name)
    if samples.ndim != 1 or (scale is None and samples.dtype.kind != "f"):
        raise InvalidMedia(
            f"audio: a mono array (N,) of floats in [-1, 1], int16 or int32 at {rate} Hz is needed, not {samples.dtype} "
            f"{samples.shape}",
            param="audio",
        )
    return torch.from_numpy(np.ascontiguousarray(samples / np.float64(scale or 1.0), dtype=np.float32))
