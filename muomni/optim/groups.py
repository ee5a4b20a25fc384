"""Parameter groups: matrices decay, vectors and embeddings do not; every trained parameter exactly once.

`matrices` are what Muon may take: hidden 2-D weights, not embeddings, heads, routers or short convolutions (Jordan et al.
2024); those of the experts of a mixture are `stacked`, one matrix an expert.
"""

from collections.abc import Iterable
from typing import Any

from torch import nn


def parameter_groups(modules: Iterable[tuple[str, nn.Module, float]], *, weight_decay: float) -> list[dict[str, Any]]:
    """Groups of parameters that require a gradient.

    modules: (name, module, learning-rate factor). A group carries `params`, `weight_decay`, `lr_scale`, `name`
    (`<module>/matrices|experts|heads|vectors`), `matrices` and `stacked`. Shared parameters count once.
    """
    seen: set[int] = set()
    groups = []
    for name, module, scale in modules:
        embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
        kinds: dict[str, list[nn.Parameter]] = {"matrices": [], "experts": [], "heads": [], "vectors": []}
        for key, parameter in module.named_parameters():
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            hidden = parameter.dim() >= 2 and id(parameter) not in embeddings and not key.endswith("short_conv.weight")
            kinds[_kind(key) if hidden else "vectors"].append(parameter)
        for kind, members in kinds.items():
            if members:
                groups.append(
                    {
                        "params": members,
                        "weight_decay": 0.0 if kind == "vectors" else weight_decay,
                        "lr_scale": scale,
                        "name": f"{name}/{kind}",
                        "matrices": kind in ("matrices", "experts"),
                        "stacked": kind == "experts",
                    }
                )
    if not groups:
        raise ValueError("nothing to train: every parameter is frozen")
    return groups


def _kind(key: str) -> str:
    """The group of a parameter with at least two dimensions, by its name."""
    if key.endswith(("head.weight", "router.weight")):
        return "heads"
    return "experts" if "experts" in key.split(".") else "matrices"
