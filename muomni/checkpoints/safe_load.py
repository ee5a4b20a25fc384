"""Files of weights from someone else: read as data, in memory that their size explains, or refused in one line.

Nothing in them is executed (`weights_only`). torch's own words for what it refuses advise to execute it, and are never shown.
What a small file could ask for is refused before or right after it is read: compressed entries, tensors that repeat the same
memory, tensors of other layouts.
"""

import pickle
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from muomni.short_repr import shown

SLACK = 1 << 20  # bytes


def load_data(path: Path) -> Any:
    """What a file of torch.save holds. Raises ValueError saying why it cannot be read, without the file's name."""
    try:
        with path.open("rb"):
            pass
        if zipfile.is_zipfile(path):
            _check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except ValueError:
        raise
    except Exception as error:  # of a damaged file torch, pickle and zipfile raise all sorts
        raise ValueError(reason(error)) from error


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a .safetensors. Raises ValueError saying why it cannot be read, without the file's name."""
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118  (no mapping)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"cannot be read, damaged or cut off ({shown(error, str, most=300)})") from error


def reason(error: BaseException) -> str:
    """Why a file cannot be read, in a line."""
    text = str(error)
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in text:
        wanted = re.search(r"GLOBAL (\S+)", text)
        what = f" (it asks for {wanted[1][:80]})" if wanted else ""
        return f"it is damaged, or holds more than tensors{what}, and nothing in it is executed"
    return next((line.strip()[:200] for line in text.splitlines() if line.strip()), type(error).__name__)


def _check_archive(path: Path) -> None:
    """torch stores, and does not compress."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("its entries are compressed, which torch never does")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError("it says to hold more than there is of it")


def check_tensors(tensors: Iterable[tuple[str, Any]], *, size: int) -> None:
    """Raise ValueError naming the first that is no ordinary tensor, and where all together are larger than a file of `size` bytes
    explains: one that repeats its numbers is small on the disk and large in memory. Two may share theirs (tied weights)."""
    total = 0
    for name, tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name} is a {type(tensor).__name__}, not a tensor")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise ValueError(f"{name} is no ordinary tensor: sparse, quantised or without numbers")
        total += tensor.numel() * tensor.element_size()
    if total > 2 * size + SLACK:
        raise ValueError(f"its tensors ask for {total >> 20} MB, the file has {size >> 10} KB")
