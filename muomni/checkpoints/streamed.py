"""An export whose tensors are written one by one, as they are read elsewhere: a model needs no memory of its own size.

The format of a .safetensors: the length of a header (8 bytes), the header in JSON, the tensors' bytes one after the other.
"""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from muomni.checkpoints.atomic_write import atomic_folder
from muomni.checkpoints.export import DESCRIPTION, FORMAT, OWN, WEIGHTS, check_place

ALIGNMENT = 8  # bytes of the header, so that what follows is aligned
NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def save_streamed(
    folder: Path,
    parts: Mapping[str, Any],
    *,
    tensors: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
    read: Callable[[str], Tensor],
    metadata: Mapping[str, Any],
    files: Mapping[str, bytes],
) -> None:
    """Write an export folder, whole or not at all, as `save_export` does.

    parts: name -> description of a module, as in model.yaml. tensors: key -> shape and dtype. read: key -> tensor, called once
    for each. files: name in the folder -> content. Raises ValueError where the folder holds something else.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    check_place(folder)
    document = {"format": FORMAT, "facts": dict(metadata), "parts": dict(parts)}
    with atomic_folder(folder, own=OWN) as temporary:
        description, weights = temporary / DESCRIPTION, temporary / WEIGHTS
        description.write_text(yaml.safe_dump(document, sort_keys=False))
        write_safetensors(weights, tensors, read)
        shutil.copymode(description, weights)
        for name, content in files.items():
            (temporary / name).write_bytes(content)


def write_safetensors(
    path: Path, tensors: Mapping[str, tuple[tuple[int, ...], torch.dtype]], read: Callable[[str], Tensor]
) -> None:
    """tensors: key -> shape and dtype. read: key -> tensor, called once for each, in the order of the file."""
    header, end = {}, 0
    keys = sorted(tensors, key=lambda key: -tensors[key][1].itemsize)  # so that each begins at a multiple of its width
    for key in keys:
        shape, dtype = tensors[key]
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[key] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key in keys:
            tensor, (shape, dtype) = read(key), tensors[key]
            assert (tuple(tensor.shape), tensor.dtype) == (shape, dtype), f"{key}: {tensor.shape} {tensor.dtype}"
            file.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
