"""An export folder -> a checkpoint of micro-omni.

What micro-omni has no option for is refused by name. What it has no place for (our Talker's text side, moving averages,
text tower) travels in a group of its own, so that importing the file gives the same export again.
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
from muomni.interop.micro_omni.parts import check_exportable, options_built
from muomni.interop.micro_omni.rules import TABLES, State, named, to_theirs
from muomni.interop.micro_omni.vocabulary import narrowed, narrowed_tokenizer
from muomni.models.thinker import Thinker


def export_checkpoint(folder: Path, out: Path, *, parts: Sequence[str] | None = None) -> list[str]:
    """Write an export as micro-omni's `.pt` or `.safetensors`, with the Thinker's tokenizer.model beside it; gives notes.

    parts: default all. Raises ValueError or FileNotFoundError, one line naming the export and the option that micro-omni
    has not, or the file that stands in the way.
    """
    if out.exists():
        raise ValueError(f"out={out} is there already: name another file")
    if out.suffix not in files.WRITTEN:
        raise ValueError(f"out={out}: name it .pt or .safetensors")
    export = load_export(folder, parts)
    origin: dict[str, Any] = export.facts.get(FACT, {})
    added = bool(origin.get("added_pieces"))
    loaded = export.parts
    if added and "thinker" in loaded:
        loaded = {**loaded, "thinker": narrowed(cast(Thinker, loaded["thinker"]))}
    if not loaded.keys() & TABLES.keys():
        raise ValueError(f"{folder}: no part that micro-omni has; it has {', '.join(TABLES)}")
    notes: list[str] = []
    checkpoint = Checkpoint(description=_description(export.facts, loaded))
    for name, part in loaded.items():
        try:
            theirs, own = _part(name, part, origin)
        except ValueError as error:
            raise ValueError(f"{folder}: {error}; it cannot be written for micro-omni") from error
        if theirs:
            checkpoint.parts[name] = theirs
        checkpoint.ours |= {f"{name}.{key}": value for key, value in own.items()}
        if own:
            beginnings = ", ".join(dict.fromkeys(key.split(".")[0] for key in own))
            notes.append(f"{name}: micro-omni has no place for {beginnings}; it travels as {files.OURS!r}")
    if (folder / KEPT_FILE).is_file():
        checkpoint.kept = load_file(folder / KEPT_FILE)
    tokenizer = None
    if "thinker" in loaded:
        model = export.tokenizer_path.read_bytes()
        tokenizer = narrowed_tokenizer(model) if added else model
        _check_tokenizer(out.with_name("tokenizer.model"), tokenizer)
    if added and "thinker" in loaded:
        notes.append("thinker: without the rows of our special tokens, which its checkpoint did not have")
    files.write(out, checkpoint)
    if tokenizer is not None:
        with atomic_write(out.with_name("tokenizer.model")) as temporary:
            temporary.write_bytes(tokenizer)
    return notes


def _part(name: str, part: nn.Module, origin: Mapping[str, Any]) -> tuple[State, State]:
    """A part's state under their keys, and what only we have, under ours."""
    state = part.state_dict()
    if name not in TABLES:
        return {}, state
    layout = check_exportable(name, part)
    theirs, own = to_theirs(state, named(name, origin.get("layout", {}).get(name, layout)))
    surplus = [key for key in own if not key.startswith(TABLES[name].own)]
    if surplus:
        raise ValueError(f"{name}: micro-omni has no key for {surplus[0]}")
    return _in_dtype(theirs, origin.get("dtype", {}).get(name, "float32")), own


def _in_dtype(state: State, name: str) -> State:
    """In the dtype that the file had, where nothing is lost by it: after further training it stays float32."""
    if name not in ("float16", "bfloat16"):
        return state
    dtype = getattr(torch, name)
    cast = {key: value.to(dtype) for key, value in state.items()}
    return cast if all(torch.equal(cast[key].float(), value) for key, value in state.items()) else state


def _description(facts: Mapping[str, Any], parts: Mapping[str, nn.Module]) -> str:
    """Facts and options, from which the same export is made again."""
    described = {name: {"part": part.part_name, "options": options_built(part)} for name, part in parts.items()}
    plain = {key: value for key, value in facts.items() if key != FACT}
    return yaml.safe_dump({"facts": plain, "parts": described}, sort_keys=False)


def _check_tokenizer(path: Path, model: bytes) -> None:
    if path.exists() and path.read_bytes() != model:
        raise ValueError(f"{path} is there already and is another tokenizer: write to another folder")
