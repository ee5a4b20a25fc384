"""Parameter groups: matrices decay, vectors and embeddings do not; every trained parameter exactly once.

`matrices` are what Muon may take (Jordan et al. 2024): hidden weights of linear layers and of convolutions that mix
channels; those of the experts of a mixture are `experts`, one matrix an expert. The rest takes AdamW's step. `heads`: output
layers of a network, and routers. `vectors`: everything else, as embeddings, positions, class tokens, codebooks, depthwise and
short convolutions, norms, biases, weights under a parametrization, and weights with a side of one. The table of all stages:
tests/unit/optim/test_table.py.

`adapters`: what LoRA and DoRA add to a layer (nn/lora.py). They take AdamW's step, as in the papers, and do not decay: Muon would
make all directions of an update equally large, whose small rank is to find the few that matter.
"""

from collections.abc import Iterable
from typing import Any

from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
GROUPS = ("matrices", "experts", "heads", "vectors", "adapters")
NO_DECAY = ("vectors", "adapters")
ADAPTER = "lora_"  # begins the names of what an adapter adds


def parameter_groups(modules: Iterable[tuple[str, nn.Module, float]], *, weight_decay: float) -> list[dict[str, Any]]:
    """Groups of parameters that require a gradient.

    modules: (name, module, learning-rate factor). A group carries `params`, `weight_decay`, `lr_scale`, `name`
    (`<module>/matrices|experts|heads|vectors|adapters`), `matrices` and `stacked`. Shared parameters count once.
    """
    seen: set[int] = set()
    groups = []
    for name, module, scale in modules:
        if not scale:  # frozen
            continue
        matrices = _matrices(module)
        members_of: dict[str, list[nn.Parameter]] = {group: [] for group in GROUPS}
        for key, parameter in module.named_parameters():
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            is_adapter = key.rpartition(".")[2].startswith(ADAPTER)
            others = "adapters" if is_adapter else "vectors"
            members_of[_group_of(key) if id(parameter) in matrices else others].append(parameter)
        for group, members in members_of.items():
            if members:
                decay, is_matrix = 0.0 if group in NO_DECAY else weight_decay, group in ("matrices", "experts")
                options = {"matrices": is_matrix, "stacked": group == "experts", "lr_scale": scale}
                groups.append({"params": members, "weight_decay": decay, "name": f"{name}/{group}", **options})
    if not groups:
        raise ValueError("nothing to train: every parameter is frozen")
    return groups


def _matrices(module: nn.Module) -> set[int]:
    """The ids of the weights, heads among them, that multiply vectors of several numbers into such; not those that an
    embedding shares."""
    found: set[int] = set()
    embeddings: set[int] = set()
    for key, holder in module.named_modules():
        if isinstance(holder, nn.Embedding):
            embeddings.add(id(holder.weight))
        elif isinstance(holder, nn.Linear) or (isinstance(holder, CONVOLUTIONS) and holder.groups == 1):
            weight = holder.weight
            if min(weight.shape[0], weight[0].numel()) > 1:
                found.add(id(weight))
        elif "experts" in key.split("."):
            found |= {id(parameter) for parameter in holder.parameters(recurse=False) if parameter.dim() == 3}
    return found - embeddings


def _group_of(key: str) -> str:
    """The group of a matrix, by the name of its layer."""
    path = key.split(".")[:-1]
    if "experts" in path:
        return "experts"
    output = path[-1:] == ["proj_out"] or path[-2:] == ["decoder", "proj"]  # of the codec and the vocoder
    is_head = output or any(each == "router" or each.endswith(("head", "heads")) for each in path[-2:])
    return "heads" if is_head else "matrices"
