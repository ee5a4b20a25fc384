"""CIFAR-10 and CIFAR-100 as their authors publish them for Python: pickled batches of 32 x 32 images. Nothing in the pickles is
executed: they may hold arrays, bytes, numbers and lists alone."""

import pickle
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.formats.entries import BadRow, Entries, Format, Reading
from datamodules.formats.npz_images import as_ppm
from datamodules.media import StoredMedia, file_identity

SIDE = 32
#: (split, files, file of the names, their key, key of the labels) of both sets.
CIFAR10 = ("batches.meta", b"label_names", b"labels", {"train": "data_batch_*", "test": "test_batch"})
CIFAR100 = ("meta", b"fine_label_names", b"fine_labels", {"train": "train", "test": "test"})
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"), ("numpy", "ndarray"),
    ("numpy", "dtype"), ("_codecs", "encode"),
}  # fmt: skip


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and nothing in it is executed")
        return super().find_class(module, name)


@dataclass(frozen=True, slots=True)
class CifarImage(StoredMedia):
    """Image `index` of a batch."""

    container: str
    index: int

    @property
    def name(self) -> str:
        return f"{self.container}/{self.index}.ppm"

    def read(self) -> bytes:
        pixels = _batch(self.container, file_identity(self.container))[b"data"][self.index]
        return as_ppm(pixels.reshape(3, SIDE, SIDE).transpose(1, 2, 0))

    def identity(self) -> str:
        return f"{file_identity(self.container)}\0{self.index}"


@lru_cache(maxsize=8)
def _batch(path: str, identity: str) -> dict[bytes, Any]:
    """What a file holds. Raises ValueError naming it."""
    try:
        with open(path, "rb") as file:
            batch = _Unpickler(file, encoding="bytes").load()
    except OSError:
        raise
    except Exception as error:  # of damaged bytes pickle raises all sorts
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path}: cannot be read as a batch of CIFAR ({reason})") from error
    if not isinstance(batch, dict):
        raise ValueError(f"{path}: cannot be read as a batch of CIFAR (it holds no dict)")
    return batch


def _set(path: Path) -> tuple[str, bytes, bytes, dict[str, str]] | None:
    if (path / "batches.meta").is_file():
        return CIFAR10
    is_100 = all((path / name).is_file() for name in ("meta", "train", "test"))
    return CIFAR100 if is_100 else None


def _recognises(path: Path) -> bool:
    return _set(path) is not None


def _read(path: Path, shape: str, reading: Reading) -> Entries:
    found = _set(path)
    if found is None:
        raise ValueError(f"{path}: no batches.meta (CIFAR-10) and no meta, train and test (CIFAR-100)")
    meta, names_key, labels_key, splits = found
    absolute = path.absolute()
    raw = _batch(str(absolute / meta), file_identity(absolute / meta)).get(names_key, [])
    classes = [name.decode("ascii", errors="replace").replace("_", " ") for name in raw]
    for split, pattern in splits.items():
        for file in sorted(absolute.glob(pattern)):
            batch = _batch(str(file), file_identity(file))
            labels, data = batch.get(labels_key), batch.get(b"data")
            if (
                not isinstance(labels, list)
                or not isinstance(data, np.ndarray)
                or data.shape != (len(labels), 3 * SIDE**2)
            ):
                raise ValueError(
                    f"{file}: not a batch of CIFAR: as many labels as images of {3 * SIDE**2} bytes are needed"
                )
            for index, label in enumerate(labels):
                place = f"{file.name}, row {index + 1}"
                if not isinstance(label, int) or not 0 <= label < len(classes):
                    yield place, BadRow(f"label {label!r}: there are {len(classes)} classes")
                    continue
                image = CifarImage(str(file), index)
                yield place, {"id": f"{file.name}-{index}", "image": image, "class": classes[label], "split": split}


CIFAR = Format(name="cifar", read=_read, recognises=_recognises, folders=True, shapes=("image_text",))
