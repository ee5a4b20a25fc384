"""One part of a micro-omni checkpoint -> our module with its weights.

The part is built from the options that its tensors tell (`parts.py`); the keys and shapes that such a part has over there
are compared with the file's; only then the tensors change their names (`rules.py`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from muomni.checkpoints.assembly import assemble, build_part, difference, outline
from muomni.interop.micro_omni.parts import ASSUMED, options_of
from muomni.interop.micro_omni.rules import TABLES, State, choose, to_ours, to_theirs

SEED = 0  # of what is started anew: the same import gives the same export


@dataclass(slots=True)
class Built:
    """module: in eval mode. layout: names of its choices. new: our keys that were started anew. dtype: of its tensors in
    the file. notes: what the user must know."""

    module: nn.Module
    layout: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    dtype: str = "float32"
    notes: list[str] = field(default_factory=list)


def build(
    name: str,
    theirs: State,
    *,
    ours: State,
    description: Mapping[str, Any] | None,
    given: Mapping[str, Any],
    fill: bool,
) -> Built:
    """Build the part `name`.

    theirs: its tensors under their keys. ours: those that a file of ours carries under our keys; description: part and
    options, of such a file. given: options that no tensor tells. fill: start anew what theirs lack.
    Raises ValueError naming the first keys or the option that are wrong.
    """
    if name not in TABLES:  # our own, which a file of ours carries as it is
        return Built(assemble(description or {}, ours, where="its description", weights=f"part {name!r}"))
    layout, rules = choose(name, theirs)
    notes: list[str] = []
    if description is not None and given:
        raise ValueError(
            f"muomni wrote the file and its options: leave out {', '.join(f'{name}.{key}' for key in given)}"
        )
    if description is None:
        options = options_of(name, theirs, given)
        assumed = [f"{name}.{option}={options[option]}" for option in ASSUMED[name] if option not in given]
        notes += [f"assumed, since no tensor tells them: {' '.join(assumed)}"] if assumed else []
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
            f"ours has what it lacks, {len(new)} keys: {_shortened(new)}; fill=true starts them anew (train them then), "
            f"parts= without {name} leaves it out"
        )
    state = to_ours(theirs, rules) | ours
    if new:
        notes.append(f"{name}: started anew, to be trained: {_shortened(new)}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            state = build_part(description, where="its description").state_dict() | state
    module = assemble(description, state, where="its description", weights=f"part {name!r}")
    return Built(module, layout, new, one_dtype(theirs), notes)


def one_dtype(state: State) -> str:
    """The dtype of a state dict. Raises ValueError where there are several: the way back would lose them."""
    found = sorted({str(value.dtype).removeprefix("torch.") for value in state.values()})
    if len(found) > 1:
        raise ValueError(f"its tensors are of {' and '.join(found)}: save them in one of these")
    return found[0]


def _shortened(keys: Iterable[str]) -> str:
    """Keys by their first two words, each once."""
    return ", ".join(dict.fromkeys(".".join(key.split(".")[:2]) for key in keys))
