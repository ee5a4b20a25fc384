"""Arrays of different lengths, one after the other in a file of numpy's that is written as they come."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

BUFFER = 1 << 20  # bytes


def write_joined(path: Path, arrays: Iterable[np.ndarray], *, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Write arrays (L_i, *shape) as one .npy of (sum L_i, *shape) -> where each ends, int64."""
    ends, end = [], 0
    with path.open("wb", buffering=BUFFER) as file:
        _write_header(file, 0, shape, dtype)
        for array in arrays:
            file.write(np.ascontiguousarray(array, dtype=dtype).tobytes())
            end += len(array)
            ends.append(end)
        file.seek(0)
        _write_header(file, end, shape, dtype)  # as long as before: numpy leaves room for a first axis that grows
    return np.array(ends, dtype=np.int64)


def _write_header(file: Any, length: int, shape: tuple[int, ...], dtype: Any) -> None:
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": (length, *shape)})
