"""Reading and writing of micro-omni's files: the `.pt` of each stage and the single safetensors.

    .pt           a dictionary of state dicts, {"enc": {...}, "head": {...}, "optimizer": ...}, or a bare state dict
    .safetensors  one flat dictionary, the state dicts' names as prefixes: `audio_encoder.blocks.0.norm1.weight`

Reading executes nothing. Trained tensors without a counterpart here (`img_proj`, `text_proj`, `ocr`, ...) are kept unchanged,
the state of the training (optimizer, step, ...) is left out. Tensors that only we have go into a group of our own, `muomni`,
which micro-omni ignores, so that our exports can be restored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from muomni.checkpoints.atomic_write import atomic_write
from muomni.checkpoints.safe_load import check_tensors, load_data, read_safetensors
from muomni.interop.micro_omni.rules import State

OURS = "muomni"
#: Their group -> our module and the prefix of its keys there (our Audio holds encoder and CTC head).
GROUPS = {
    "model": ("thinker", ""),
    "thinker": ("thinker", ""),
    "enc": ("audio", ""),
    "audio_encoder": ("audio", ""),
    "head": ("audio", "head."),
    "vit": ("vision", ""),
    "vision_encoder": ("vision", ""),
    "rvq": ("codec", ""),
    "talker": ("talker", ""),
    "proj_a": ("audio_projector", ""),
    "proj_v": ("image_projector", ""),
}
#: The groups of a written file; a `.pt` with a Thinker only calls it "model".
WRITTEN = {
    ".pt": ("thinker", "enc", "head", "vit", "rvq", "talker", "proj_a", "proj_v"),
    ".safetensors": ("thinker", "audio_encoder", "vision_encoder", "talker", "rvq", "proj_a", "proj_v"),
}
KEPT = ("img_proj", "text_proj", "text_embed", "text_encoder", "ocr")
LEFT_OUT = ("optimizer", "scheduler", "scaler", "config", "char_to_idx", "idx_to_char")
BARE = "tok_emb.weight"  # a state dict without groups is a Thinker's
DTYPES = (torch.float32, torch.float16, torch.bfloat16)  # convert to our float32 without loss


@dataclass(slots=True)
class Checkpoint:
    """Content of a file.

    modules: our module -> state under their keys. kept: tensors without a counterpart, `group.key`. left_out: entries of the
    training's state. ours: our own tensors, `module.key` under our keys; description: text of model.yaml, "" for a file not
    written by muomni.
    """

    modules: dict[str, State] = field(default_factory=dict)
    kept: State = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    ours: State = field(default_factory=dict)
    description: str = ""


def read(path: Path) -> Checkpoint:
    """Read a file of theirs. Raises FileNotFoundError, or ValueError naming the file and the first keys that are wrong."""
    if not path.is_file():
        raise FileNotFoundError(f"no such checkpoint: {path}")
    try:
        if path.suffix == ".safetensors":
            groups, description = _read_safetensors(path)
        elif path.suffix == ".pt":
            groups, description = _read_pt(path)
        else:
            raise ValueError("not a .pt or .safetensors file")
        found = _sort(groups, description)
        states = (*found.modules.values(), found.kept, found.ours)
        check_tensors((item for state in states for item in state.items()), size=path.stat().st_size)
        return found
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_safetensors(path: Path) -> tuple[dict[str, Any], str]:
    flat, header = read_safetensors(path)
    description = header.get(OURS, "")
    if BARE in flat:
        return {"model": flat}, description
    groups: dict[str, Any] = {}
    for key, value in flat.items():
        group, _, rest = key.partition(".")
        groups.setdefault(group, {})[rest] = value
    return groups, description


def _read_pt(path: Path) -> tuple[dict[str, Any], str]:
    try:
        content = load_data(path)
    except ValueError as error:
        raise ValueError(f"cannot be read, damaged, cut off or not a checkpoint: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"holds a {type(content).__name__}, not a dictionary of state dicts")
    if BARE in {_plain(str(key)) for key in content}:
        return {"model": content}, ""
    own = content.pop(OURS, None)
    if own is None:
        return content, ""
    if (
        not isinstance(own, dict)
        or not isinstance(own.get("description"), str)
        or not isinstance(own.get("tensors"), dict)
    ):
        raise ValueError(f"the entry {OURS!r} was not written by muomni")
    return {**content, OURS: own["tensors"]}, own["description"]


def _sort(groups: Mapping[str, Any], description: str) -> Checkpoint:
    """Sort groups into modules, kept and left_out. Raises ValueError for an unknown group."""
    found = Checkpoint(description=description)
    for group, content in groups.items():
        if group in LEFT_OUT or not isinstance(content, dict | Tensor):
            found.left_out.append(str(group))  # a step, a loss: not weights
            continue
        if group not in GROUPS and group not in (*KEPT, OURS):
            known = ", ".join([*GROUPS, *KEPT])
            raise ValueError(f"of unknown layout: {group!r} is not an entry of micro-omni's; known: {known}")
        state = _state(str(group), content)
        if group in GROUPS:
            module, prefix = GROUPS[group]
            target = found.modules.setdefault(module, {})
            duplicates = [key for key in state if f"{prefix}{key}" in target]
            if duplicates:
                raise ValueError(f"{module} is in it twice: {group}.{duplicates[0]}")
            target.update({f"{prefix}{key}": value for key, value in state.items()})
        elif group == OURS:
            found.ours = state
        else:
            found.kept.update({f"{group}.{key}": value for key, value in state.items()})
    if not found.modules:
        raise ValueError(f"of unknown layout: it has none of the entries {', '.join(GROUPS)}")
    return found


def _state(group: str, content: Any) -> State:
    """A state dict without torch.compile's prefixes. Raises ValueError for values other than tensors of `DTYPES`."""
    if not isinstance(content, dict):
        raise ValueError(f"of unknown layout: {group!r} is a tensor, not a state dict")
    state: State = {}
    for key, value in content.items():
        name = _plain(str(key))
        if not isinstance(value, Tensor):
            raise ValueError(f"{group}.{key} is a {type(value).__name__}, not a tensor")
        if group not in (*KEPT, OURS) and value.dtype not in DTYPES:
            raise ValueError(f"{group}.{key} is of {value.dtype}, not of float32, float16 or bfloat16")
        if name in state:
            raise ValueError(f"{group}.{name} is in it twice, with and without _orig_mod.")
        state[name] = value
    return state


def _plain(key: str) -> str:
    return key.replace("_orig_mod.", "")


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write a file of theirs, .pt or .safetensors, atomically."""
    groups, ours = _groups(checkpoint, path.suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        if path.suffix == ".pt":
            own = {"description": checkpoint.description, "tensors": ours}
            torch.save({**groups, OURS: own}, temporary)
        else:
            flat = {f"{group}.{key}": value for group, state in groups.items() for key, value in state.items()}
            flat |= {f"{OURS}.{key}": value for key, value in ours.items()}
            save_file(flat, temporary, metadata={OURS: checkpoint.description})


def _groups(checkpoint: Checkpoint, suffix: str) -> tuple[dict[str, State], State]:
    """Their groups, and the content of ours."""
    groups: dict[str, State] = {OURS: dict(checkpoint.ours)}
    for module, state in checkpoint.modules.items():
        for key, value in state.items():
            group, name = _target(module, key, suffix)
            groups.setdefault(group, {})[name] = value
    for key, value in checkpoint.kept.items():
        group, _, name = key.partition(".")
        groups.setdefault(group, {})[name] = value
    if suffix == ".pt" and checkpoint.modules.keys() == {"thinker"}:
        groups["model"] = groups.pop("thinker")
    # A view of a fused projection would be saved with its whole storage.
    own = {
        group: {key: value.detach().cpu().clone().contiguous() for key, value in state.items()}
        for group, state in groups.items()
    }
    return own, own.pop(OURS)


def _target(module: str, key: str, suffix: str) -> tuple[str, str]:
    """The group and the name of a key; our own group if the format has none for it (the CTC head in safetensors)."""
    prefix = "head." if module == "audio" and key.startswith("head.") else ""
    for group in WRITTEN[suffix]:
        if GROUPS[group] == (module, prefix):
            return group, key.removeprefix(prefix)
    return OURS, f"{module}.{key}"
