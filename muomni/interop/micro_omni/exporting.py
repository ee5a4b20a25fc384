"""An export folder -> a checkpoint of micro-omni.

Options that micro-omni lacks are a ValueError. Tensors that it lacks (our Talker's text side, moving averages, text tower) are
stored in a group of their own, so that importing the file restores the same export.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from muomni.checkpoints.atomic_write import atomic_write
from muomni.checkpoints.export import load_export
from muomni.interop.micro_omni import files
from muomni.interop.micro_omni.files import Checkpoint
from muomni.interop.micro_omni.importing import FACT, KEPT_FILE
from muomni.interop.micro_omni.module_options import check_exportable, options_built
from muomni.interop.micro_omni.rules import TABLES, State, rules_of_layout, to_theirs
from muomni.interop.micro_omni.vocabulary import narrowed, narrowed_tokenizer
from muomni.models.thinker import Thinker


def export_checkpoint(folder: Path, out: Path, *, modules: Sequence[str] | None = None) -> list[str]:
    """Write an export as micro-omni's `.pt` or `.safetensors`, with the Thinker's tokenizer.model next to it; returns notes.

    modules: default all. Raises ValueError or FileNotFoundError, one line naming the export and the option that
    micro-omni lacks, or the file that exists already.
    """
    if out.exists():
        raise ValueError(f"out={out} exists already: name another file")
    if out.suffix not in files.WRITTEN:
        raise ValueError(f"out={out}: name it .pt or .safetensors")
    export = load_export(folder, modules)
    origin: dict[str, Any] = export.metadata.get(FACT, {})
    added = bool(origin.get("added_pieces"))
    loaded = export.modules
    if added and "thinker" in loaded:
        loaded = {**loaded, "thinker": narrowed(cast(Thinker, loaded["thinker"]))}
    if not loaded.keys() & TABLES.keys():
        raise ValueError(f"{folder}: no module that micro-omni has; it has {', '.join(TABLES)}")
    notes: list[str] = []
    checkpoint = Checkpoint(description=_description(export.metadata, loaded))
    for name, module in loaded.items():
        try:
            theirs, own = _part(name, module, origin)
        except ValueError as error:
            raise ValueError(f"{folder}: {error}; it cannot be written for micro-omni") from error
        if theirs:
            checkpoint.modules[name] = theirs
        checkpoint.ours |= {f"{name}.{key}": value for key, value in own.items()}
        if own:
            prefixes = ", ".join(dict.fromkeys(key.split(".")[0] for key in own))
            notes.append(f"{name}: micro-omni has no {prefixes}; stored as {files.OURS!r}")
    if (folder / KEPT_FILE).is_file():
        checkpoint.kept = load_file(folder / KEPT_FILE)
    tokenizer = None
    if "thinker" in loaded:
        model = export.tokenizer_path.read_bytes()
        tokenizer = narrowed_tokenizer(model) if added else model
        _check_tokenizer(out.with_name("tokenizer.model"), tokenizer)
    if added and "thinker" in loaded:
        notes.append("thinker: without the rows of our special tokens, which the imported checkpoint did not have")
    files.write(out, checkpoint)
    if tokenizer is not None:
        with atomic_write(out.with_name("tokenizer.model")) as temporary:
            temporary.write_bytes(tokenizer)
    return notes


def _part(name: str, module: nn.Module, origin: Mapping[str, Any]) -> tuple[State, State]:
    """A module's state: the tensors that micro-omni has, under their keys, and the others, under ours."""
    state = module.state_dict()
    if name not in TABLES:
        return {}, state
    layout = check_exportable(name, module)
    theirs, own = to_theirs(state, rules_of_layout(name, origin.get("layout", {}).get(name, layout)))
    unknown = [key for key in own if not key.startswith(TABLES[name].own)]
    if unknown:
        raise ValueError(f"{name}: micro-omni has no key for {unknown[0]}")
    return _in_dtype(theirs, origin.get("dtype", {}).get(name, "float32")), own


def _in_dtype(state: State, name: str) -> State:
    """In the dtype of the imported file, if that is lossless: after further training it stays float32."""
    if name not in ("float16", "bfloat16"):
        return state
    dtype = getattr(torch, name)
    cast = {key: value.to(dtype) for key, value in state.items()}
    return cast if all(torch.equal(cast[key].float(), value) for key, value in state.items()) else state


def _description(metadata: Mapping[str, Any], modules: Mapping[str, nn.Module]) -> str:
    """Facts and options, from which an import restores the export."""
    described = {
        name: {"part": module.architecture, "options": options_built(module)} for name, module in modules.items()
    }
    plain = {key: value for key, value in metadata.items() if key != FACT}
    return yaml.safe_dump({"facts": plain, "parts": described}, sort_keys=False)


def _check_tokenizer(path: Path, model: bytes) -> None:
    if path.exists() and path.read_bytes() != model:
        raise ValueError(f"{path} exists already and is another tokenizer: write to another folder")
