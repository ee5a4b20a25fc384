"""An export's Thinker -> a folder of mlx-lm: that of transformers, but for two things.

Experts are stacked under `switch_mlp`, as mlx-lm's modules have them, and an index names the file of each tensor. The weights are
float32; mlx_lm.convert quantizes them on the machine that runs it.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muomni.interop.hf.exporting import card, check_new, notes_on, write_folder
from muomni.interop.hf.folder import INDEX, WEIGHTS
from muomni.interop.hf.leaving import read_leaving, window_within_context

KNOWN = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe")
EXPERT = re.compile(r"^(.*)\.experts\.(\d+)\.(\w+)\.weight$")
#: Mixtral's names of the three matrices, and mlx-lm's.
NAMES = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}


def export_mlx(source: Path, out: Path, *, about: Mapping[str, Any], metrics: Path | None = None) -> list[str]:
    """Write the folder `out`; returns notes. Raises ValueError or FileNotFoundError of one line."""
    check_new(out)
    leaving = read_leaving(source)
    check_known(leaving.config)
    tensors = stacked(leaving.tensors)
    index = {
        "metadata": {
            "total_size": sum(each.nbytes for each in tensors.values()), "total_parameters": leaving.parameters
        },
        "weight_map": dict.fromkeys(sorted(tensors), WEIGHTS),
    }  # fmt: skip

    def write_index(folder: Path) -> None:
        (folder / INDEX).write_text(json.dumps(index, indent=4) + "\n")

    text = card(source, out, leaving, about, metrics, library="mlx")
    write_folder(out, leaving, tensors=tensors, file_format="mlx", card=text, more=write_index)
    return notes_on(leaving, about)


def check_known(config: Mapping[str, Any]) -> None:
    """Raise ValueError naming what mlx-lm's module of that name has not."""
    name = config["model_type"]
    if name not in KNOWN:
        raise ValueError(
            f"a {name} is not written for mlx-lm here, {', '.join(KNOWN)} are: mlx_lm.convert reads what "
            "python -m muomni.interop.hf export  writes"
        )
    if window := window_within_context(config):
        raise ValueError(f"window={window}: mlx-lm's {name} attends to all tokens")
    if config.get("rope_scaling") and name in ("mixtral", "qwen3_moe"):
        raise ValueError(f"rope_scaling={config['rope_scaling']}: mlx-lm's {name} has none")


def stacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with each layer's experts as one: (E, ...)."""
    groups: dict[str, dict[int, Tensor]] = {}
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        found = EXPERT.match(name)
        if found is None:
            plain[name] = tensor
        else:
            whole = f"{found[1]}.switch_mlp.{NAMES.get(found[3], found[3])}.weight"
            groups.setdefault(whole, {})[int(found[2])] = tensor
    return plain | {
        name: torch.stack([experts[number] for number in range(len(experts))]) for name, experts in groups.items()
    }
