"""Parameter groups: matrices decay, vectors and embeddings do not; every trained parameter exactly once."""

from collections.abc import Iterable
from typing import Any

from torch import nn


def parameter_groups(modules: Iterable[tuple[str, nn.Module, float]], *, weight_decay: float) -> list[dict[str, Any]]:
    """Groups of parameters that require a gradient.

    modules: (name, module, learning-rate factor). A group carries `params`, `weight_decay`, `lr_scale`, `name` and
    `matrices` (True: 2-D weights of linear layers, which Muon may take). Shared parameters count once.
    """
    seen: set[int] = set()
    groups = []
    for name, module, scale in modules:
        embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
        matrices, rest = [], []
        for parameter in module.parameters():
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            decays = parameter.dim() >= 2 and id(parameter) not in embeddings
            (matrices if decays else rest).append((parameter, decays))
        for members, decay in ((matrices, weight_decay), (rest, 0.0)):
            if members:
                groups.append(
                    {
                        "params": [parameter for parameter, _ in members],
                        "weight_decay": decay,
                        "lr_scale": scale,
                        "name": f"{name}/{'decay' if decay or members is matrices else 'no_decay'}",
                        "matrices": members is matrices,
                    }
                )
    if not groups:
        raise ValueError("nothing to train: every parameter is frozen")
    return groups
