"""One module of a micro-omni checkpoint -> our module with its weights.

The options are inferred from the tensors (`module_options.py`); the keys and shapes that such a module has in micro-omni are
compared with the file's; only then the tensors are renamed (`rules.py`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from muomni.checkpoints.assembly import assemble, build_part, difference, outline
from muomni.interop.micro_omni.files import Checkpoint
from muomni.interop.micro_omni.module_options import ASSUMED, options_of
from muomni.interop.micro_omni.rules import TABLES, State, match_layout, to_ours, to_theirs

SEED = 0  # of newly initialised weights: imports are reproducible


@dataclass(slots=True)
class Built:
    """module: in eval mode. layout: names of its layout variants. new: our keys that were newly initialised. dtype: of its
    tensors in the file. notes: messages for the user."""

    module: nn.Module
    layout: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    dtype: str = "float32"
    notes: list[str] = field(default_factory=list)


def build(
    name: str, checkpoint: Checkpoint, document: Mapping[str, Any], *, given: Mapping[str, Any], fill: bool
) -> Built:
    """Build the module `name` of a file.

    document: the description in a file written by muomni, else {}. given: options that cannot be inferred. fill: initialise what
    theirs lack. Raises ValueError naming the first keys or the option that are wrong.
    """
    theirs = checkpoint.modules.get(name, {})
    ours = {key.removeprefix(f"{name}."): value for key, value in checkpoint.ours.items() if key.startswith(f"{name}.")}
    description = document.get("parts", {}).get(name)
    if name not in TABLES:  # a module of ours alone, stored unchanged
        return Built(assemble(description or {}, ours, where="its description", weights=f"module {name!r}"))
    layout, rules = match_layout(name, theirs)
    notes: list[str] = []
    if description is not None and given:
        raise ValueError(
            f"the file was written by muomni with its options: leave out {', '.join(f'{name}.{key}' for key in given)}"
        )
    if description is None:
        options = options_of(name, theirs, given)
        assumed = [f"{name}.{option}={options[option]}" for option in ASSUMED[name] if option not in given]
        notes += [f"assumed, since the tensors do not tell: {' '.join(assumed)}"] if assumed else []
        description = {"part": name, "options": options}
    blank = outline(description, tensors=len(theirs) + len(ours), where="its description").state_dict()
    expected, rest = to_theirs(blank, rules)
    optional = [key for key in expected if key.startswith(TABLES[name].optional)]
    lacking = optional if not any(key in theirs for key in optional) else []
    problem = difference({key: value for key, value in expected.items() if key not in lacking}, theirs)
    if problem is not None:
        raise ValueError(problem)
    new = [key for key in (*rest, *lacking) if key not in ours]
    if new and not fill:
        raise ValueError(
            f"it lacks {len(new)} keys of ours: {_shortened(new)}; fill=true initialises them (then train them), "
            f"modules= without {name} leaves it out"
        )
    state = to_ours(theirs, rules) | ours
    if new:
        notes.append(f"{name}: newly initialised, to be trained: {_shortened(new)}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            state = build_part(description, where="its description").state_dict() | state
    module = assemble(description, state, where="its description", weights=f"module {name!r}")
    return Built(module, layout, new, one_dtype(theirs), notes)


def one_dtype(state: State) -> str:
    """The dtype of a state dict. Raises ValueError for several, which an export could not restore."""
    found = sorted({str(value.dtype).removeprefix("torch.") for value in state.values()})
    if len(found) > 1:
        raise ValueError(f"its tensors are of {' and '.join(found)}: save them in one of these")
    return found[0]


def _shortened(keys: Iterable[str]) -> str:
    """The distinct first two components of keys."""
    return ", ".join(dict.fromkeys(".".join(key.split(".")[:2]) for key in keys))
