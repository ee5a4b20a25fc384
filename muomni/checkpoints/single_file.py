"""Exports as one file, and a training run's checkpoints as exports.

    NAME.safetensors   tensors `<module>.<key>`; in the header `muomni` (what model.yaml says, as JSON) and `tokenizer`
                       (its file in base64)
    NAME.ckpt          Lightning's checkpoint; a stage adds `export`, plain data: the same description, the prefix of each
                       module in the state dict, the tensors of modules outside of it, the tokenizer, and the scale of
                       adapters (nn/lora.py), which are merged

Loading is as strict as that of a folder, and executes as little: pickles are read with weights_only.
"""

import base64
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from muomni.checkpoints.atomic_write import atomic_write, follow
from muomni.checkpoints.export import (
    WEIGHTS,
    Export,
    build_modules,
    check_readable,
    checked,
    describe,
    document_of,
    is_export,
    list_exports,
    load_export,
    save_tensors,
)
from muomni.checkpoints.safe_load import check_tensors, load_data, read_safetensors
from muomni.checkpoints.schema import MOST_BYTES
from muomni.nn.lora import merged_state
from muomni.user_path import user_path

DESCRIPTION, TOKENIZER = "muomni", "tokenizer"
IMPORT = "python -m muomni.interop.micro_omni import FILE out=checkpoints/NAME"


def read_export(path: Path | str) -> Export:
    """Load all modules of an export folder (or the model.safetensors in it), a single .safetensors or a Lightning .ckpt.

    Raises FileNotFoundError or ValueError naming the file and what is wrong with it.
    """
    path = user_path(path)
    if path.name == "model.safetensors" and is_export(path.parent):
        path = path.parent
    if path.is_file():
        return _single(path) if path.suffix == ".safetensors" else _checkpoint(path)
    if not is_export(path):
        others = ", ".join(str(other) for other in list_exports(path.parent)) or "none"
        raise FileNotFoundError(
            f"{path}: no export here (no model.yaml and model.safetensors); exports next to it: {others}"
        )
    return load_export(path)


def save_single(path: Path | str, export: Export) -> Path:
    """Write an export with all modules as one .safetensors, atomically. Raises ValueError as `check_single_place`."""
    path = user_path(path)
    check_single_place(path, sources=[export.folder])
    document, tensors = describe(export.modules, export.metadata, where=str(path))
    header = {DESCRIPTION: json.dumps(document)}
    if export.tokenizer is not None:
        header[TOKENIZER] = base64.b64encode(export.tokenizer).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        save_tensors(tensors, temporary, place=path, metadata=header)
    return path


def check_single_place(path: Path | str, *, sources: Sequence[Path | str]) -> None:
    """Raise ValueError if a single-file export may not be written to `path`: another suffix, an existing file that is no
    single-file export of ours, one of its `sources`, or a folder."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"export={path}: the name of a single-file export ends with .safetensors")
    if path.is_dir() or any(parent.is_file() for parent in path.parents):
        raise ValueError(f"export={path}: a folder, or a file in place of a folder, is in the way; name another file")
    if not follow(path).exists():
        return
    for source in map(Path, sources):
        for file in (source, source / WEIGHTS):
            if file.exists() and file.samefile(path):
                raise ValueError(f"export={path} is what the export is made of: name another file")
    if not is_single(path):
        raise ValueError(
            f"export={path} is there already and is no export of this kind: nothing is written over it; name another file"
        )


def is_single(path: Path) -> bool:
    """Whether the file is a single-file export, by its header."""
    if not path.is_file():  # reading a pipe would block
        return False
    try:
        with safe_open(path, "pt") as file:
            return DESCRIPTION in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def describe_for_checkpoint(
    stage: nn.Module, modules: Mapping[str, nn.Module], metadata: Mapping[str, Any], tokenizer: bytes | None
) -> dict[str, Any]:
    """The entry of a training checkpoint that lets `read_export` load it: plain data, and tensors of the modules that
    are not part of the stage."""
    names = {id(module): name for name, module in stage.named_modules()}
    outside = {name: module for name, module in modules.items() if id(module) not in names}
    inside = {name: names[id(module)] for name, module in modules.items() if id(module) in names}
    return {
        "document": document_of(modules, metadata),
        "places": inside,
        "tensors": {
            f"{name}.{key}": value for name, module in outside.items() for key, value in module.state_dict().items()
        },
        "tokenizer": None if tokenizer is None else torch.from_numpy(np.frombuffer(tokenizer, dtype=np.uint8).copy()),
    }


def _single(path: Path) -> Export:
    check_readable(path)
    try:
        tensors, header = read_safetensors(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if DESCRIPTION not in header:
        raise ValueError(
            f"{path}: not a single-file export of muomni (its header holds no {DESCRIPTION!r}); "
            f"a file of micro-omni is imported by  {IMPORT}"
        )
    if len(header[DESCRIPTION]) > MOST_BYTES:
        raise ValueError(f"{path}: its header is damaged: a description of {len(header[DESCRIPTION])} characters")
    try:
        document = json.loads(header[DESCRIPTION])
        tokenizer = base64.b64decode(header[TOKENIZER], validate=True) if TOKENIZER in header else None
    except (ValueError, RecursionError) as error:  # of json and of base64
        raise ValueError(f"{path}: its header is damaged: {error}") from error
    return _built(document, tensors, tokenizer, path)


def _built(document: Any, tensors: Mapping[str, Tensor], tokenizer: bytes | None, path: Path) -> Export:
    document = checked(document, where=str(path))
    modules = build_modules(document, tensors, None, where=str(path), weights=str(path))
    return Export(modules, document["facts"], path, tokenizer)


def _checkpoint(path: Path) -> Export:
    kinds = "as an export (a folder, .ckpt or .safetensors)"
    check_readable(path)
    if not zipfile.is_zipfile(path):  # torch would read it as a pickle
        raise ValueError(f"{path}: cannot be read {kinds}: another kind of file, or a damaged one")
    try:
        content = load_data(path)
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read {kinds}: {error}") from error
    carried = content.get("export") if isinstance(content, dict) else None
    if not isinstance(carried, dict) or not carried.keys() >= {"document", "places", "tensors", "tokenizer"}:
        raise ValueError(
            f"{path}: not a checkpoint of muomni that says what it holds; a training run also writes "
            f"checkpoints/<stage>/, and a checkpoint of micro-omni is imported by  {IMPORT}"
        )
    try:
        tensors, tokenizer = _carried(content, carried, size=path.stat().st_size)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; the checkpoint is damaged") from error
    return _built(carried["document"], tensors, tokenizer, path)


def _carried(
    content: Mapping[str, Any], carried: Mapping[str, Any], *, size: int
) -> tuple[dict[str, Any], bytes | None]:
    """The tensors of the export in a checkpoint, and its tokenizer."""
    state, outside, places = content.get("state_dict"), carried["tensors"], carried["places"]
    for name, table in (("state_dict", state), ("tensors", outside), ("places", places)):
        if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
            raise ValueError(f"its {name} is no table of names")
    assert isinstance(state, dict)
    tensors = dict(outside)
    for name, place in places.items():
        if not isinstance(place, str):
            raise ValueError(f"the path of module {name!r} is no name")
        tensors |= {
            f"{name}.{key[len(place) + 1 :]}": value for key, value in state.items() if key.startswith(f"{place}.")
        }
    check_tensors(tensors.items(), size=size)
    if carried.get("adapter") is not None:
        scale = carried["adapter"].get("scale") if isinstance(carried["adapter"], dict) else None
        if not isinstance(scale, float) or not math.isfinite(scale):
            raise ValueError(f"the scale of its adapters is {scale!r}")
        tensors = merged_state(tensors, scale=scale)
    tokenizer = carried["tokenizer"]
    if tokenizer is None:
        return tensors, None
    check_tensors([("tokenizer", tokenizer)], size=size)
    if tokenizer.dtype != torch.uint8:
        raise ValueError(f"its tokenizer is of {tokenizer.dtype}, not of bytes")
    return tensors, tokenizer.contiguous().numpy().tobytes()
