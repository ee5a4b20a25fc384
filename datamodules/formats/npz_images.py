"""Arrays of images with their classes, `.npz`: "images" (N, H, W, 3) or (N, H, W) uint8 and "labels" (N), or "x" and "y"; the
names of the classes are in classes.json next to it, a list.

Legend: N images, H W pixels.
"""

import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.formats.entries import BadRow, Entries, Format, Reading
from datamodules.formats.json_array import load_json
from datamodules.media import StoredMedia, file_identity

NAMES = (("images", "labels"), ("x", "y"), ("data", "labels"))


@dataclass(frozen=True, slots=True)
class NpzImage(StoredMedia):
    """Image `index` of an array."""

    container: str
    array: str
    index: int

    @property
    def name(self) -> str:
        return f"{self.container}/{self.array}[{self.index}].ppm"

    def read(self) -> bytes:
        return as_ppm(_arrays(self.container, file_identity(self.container))[self.array][self.index])

    def identity(self) -> str:
        return f"{file_identity(self.container)}\0{self.array}\0{self.index}"


def as_ppm(pixels: np.ndarray) -> bytes:
    """(H, W, 3), (H, W, 1) or (H, W) uint8 -> the bytes of an image file, without loss."""
    grey = pixels.ndim == 2 or pixels.shape[2] == 1
    height, width = pixels.shape[:2]
    return f"{'P5' if grey else 'P6'} {width} {height} 255\n".encode() + np.ascontiguousarray(pixels).tobytes()


@lru_cache(maxsize=2)
def _arrays(path: str, identity: str) -> dict[str, np.ndarray]:
    """All arrays of a file, decompressed. Raises ValueError naming it."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path}: cannot be read as .npz of arrays, damaged or cut off ({reason})") from error


def _read(path: Path, shape: str, reading: Reading) -> Entries:
    arrays = _arrays(str(path.absolute()), file_identity(path.absolute()))
    pair = next((names for names in NAMES if set(names) <= set(arrays)), None)
    if pair is None:
        raise ValueError(f"{path}: holds {', '.join(arrays) or 'no arrays'}; the arrays images and labels are needed")
    images, labels = (arrays[name] for name in pair)
    _check(path, images, labels)
    classes = class_names(path.parent / "classes.json", path)
    for index, label in enumerate(labels.tolist()):
        if not 0 <= label < len(classes):
            yield index + 1, BadRow(f"label {label}: there are {len(classes)} classes")
            continue
        image = NpzImage(str(path.absolute()), pair[0], index)
        yield index + 1, {"id": f"{path.stem}-{index}", "image": image, "class": classes[label]}


def _check(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    pixels = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
    if images.dtype != np.uint8 or not pixels:
        found = f"{images.dtype} {tuple(images.shape)}"
        raise ValueError(f"{path}: images must be uint8 (N, H, W, 3), (N, H, W, 1) or (N, H, W), not {found}")
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(images):
        found = f"{labels.dtype} {tuple(labels.shape)}"
        raise ValueError(f"{path}: labels must be a whole number for each of the {len(images)} images, not {found}")


def class_names(file: Path, path: Path) -> list[str]:
    """The list of names in a JSON file. path: of the data that needs it."""
    if not file.is_file():
        raise ValueError(f"{path}: no {file.name} next to it, the list of the classes' names")
    names: Any = load_json(file)
    if isinstance(names, dict):  # {"0": "cat", ..}
        names = [names.get(str(number)) for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(f"{file}: must be a list of the classes' names")
    return names


NPZ = Format(name="npz", read=_read, suffixes=(".npz",), shapes=("image_text",), place="{path}, row {number}")
