"""micro-omni's files: the `.pt` of each stage and the single safetensors, read into parts and written from them.

    .pt           a dictionary of state dicts, {"enc": {...}, "head": {...}, "optimizer": ...}, or a bare state dict
    .safetensors  one flat dictionary, the state dicts' names as prefixes: `audio_encoder.blocks.0.norm1.weight`

Reading executes nothing. What is trained and has no place here (`img_proj`, `text_proj`, `ocr`, ...) is kept as it is, what
only resumes a training (optimizer, step, ...) is left out. What only we have goes into a group of our own, `muomni`, that
micro-omni never looks at: so that our exports come back whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from muomni.checkpoints.atomic_write import atomic_write
from muomni.checkpoints.export import check_readable
from muomni.checkpoints.safe_load import check_tensors, load_data
from muomni.interop.micro_omni.rules import State

OURS = "muomni"
#: Their group -> part of ours and the beginning of its keys there (our Audio holds encoder and CTC head).
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
#: The groups that a file is written with; a `.pt` that holds a Thinker alone calls it "model".
WRITTEN = {
    ".pt": ("thinker", "enc", "head", "vit", "rvq", "talker", "proj_a", "proj_v"),
    ".safetensors": ("thinker", "audio_encoder", "vision_encoder", "talker", "rvq", "proj_a", "proj_v"),
}
KEPT = ("img_proj", "text_proj", "text_embed", "text_encoder", "ocr")
LEFT_OUT = ("optimizer", "scheduler", "scaler", "config", "char_to_idx", "idx_to_char")
BARE = "tok_emb.weight"  # a state dict without groups is a Thinker's
DTYPES = (torch.float32, torch.float16, torch.bfloat16)  # what float32, which our parts are in, holds exactly


@dataclass(slots=True)
class Checkpoint:
    """What a file holds.

    parts: part of ours -> state under their keys. kept: tensors without a place, `group.key`. left_out: entries that only
    resume a training. ours: our own tensors, `part.key` under our keys; description: model.yaml's text, "" where the
    file is not from us.
    """

    parts: dict[str, State] = field(default_factory=dict)
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
        states = (*found.parts.values(), found.kept, found.ours)
        check_tensors((item for state in states for item in state.items()), size=path.stat().st_size)
        return found
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_safetensors(path: Path) -> tuple[dict[str, Any], str]:
    check_readable(path)
    try:
        with safe_open(path, framework="pt") as file:
            flat = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            description = (file.metadata() or {}).get(OURS, "")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"cannot be read, damaged or cut off ({error})") from error
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
        raise ValueError(f"cannot be read, damaged, cut off or no checkpoint: {error}") from error
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
        raise ValueError(f"the entry {OURS!r} is not what muomni writes")
    return {**content, OURS: own["tensors"]}, own["description"]


def _sort(groups: Mapping[str, Any], description: str) -> Checkpoint:
    """Groups -> parts, kept, left out. Raises ValueError for what is none of these."""
    found = Checkpoint(description=description)
    for group, content in groups.items():
        if group in LEFT_OUT or not isinstance(content, dict | Tensor):
            found.left_out.append(str(group))  # a step, a loss: nothing that was trained
            continue
        if group not in GROUPS and group not in (*KEPT, OURS):
            known = ", ".join([*GROUPS, *KEPT])
            raise ValueError(f"of unknown layout: {group!r} is no entry of micro-omni's; known: {known}")
        state = _state(str(group), content)
        if group in GROUPS:
            part, beginning = GROUPS[group]
            target = found.parts.setdefault(part, {})
            twice = [key for key in state if f"{beginning}{key}" in target]
            if twice:
                raise ValueError(f"{part} stands in it twice: {group}.{twice[0]}")
            target.update({f"{beginning}{key}": value for key, value in state.items()})
        elif group == OURS:
            found.ours = state
        else:
            found.kept.update({f"{group}.{key}": value for key, value in state.items()})
    if not found.parts:
        raise ValueError(f"of unknown layout: it has none of the entries {', '.join(GROUPS)}")
    return found


def _state(group: str, content: Any) -> State:
    """A state dict without torch.compile's prefixes; every value must be a tensor that float32 holds exactly."""
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
            raise ValueError(f"{group}.{name} stands in it twice, with and without _orig_mod.")
        state[name] = value
    return state


def _plain(key: str) -> str:
    return key.replace("_orig_mod.", "")


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write a file of theirs, whole or not at all. Raises ValueError for another ending than .pt and .safetensors."""
    if path.suffix not in WRITTEN:
        raise ValueError(f"{path}: name it .pt or .safetensors")
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
    """Their groups, and what goes into ours."""
    groups: dict[str, State] = {OURS: dict(checkpoint.ours)}
    for part, state in checkpoint.parts.items():
        for key, value in state.items():
            group, name = _place(part, key, suffix)
            groups.setdefault(group, {})[name] = value
    for key, value in checkpoint.kept.items():
        group, _, name = key.partition(".")
        groups.setdefault(group, {})[name] = value
    if suffix == ".pt" and checkpoint.parts.keys() == {"thinker"}:
        groups["model"] = groups.pop("thinker")
    own = {group: {key: _owned(value) for key, value in state.items()} for group, state in groups.items()}
    return own, own.pop(OURS)


def _place(part: str, key: str, suffix: str) -> tuple[str, str]:
    """The group and the name of a key; our own group where such a file has none for it (the CTC head in safetensors)."""
    beginning = "head." if part == "audio" and key.startswith("head.") else ""
    for group in WRITTEN[suffix]:
        if GROUPS[group] == (part, beginning):
            return group, key.removeprefix(beginning)
    return OURS, f"{part}.{key}"


def _owned(value: Tensor) -> Tensor:
    """A copy with memory of its own: rows of a fused projection share theirs, and files would hold the whole."""
    return value.detach().cpu().clone().contiguous()
