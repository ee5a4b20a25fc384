"""Initial weights of a transformer; the projections into the residual stream are scaled down by depth."""

import math

from torch import nn

from muomni.nn.moe import Experts


def initialise(
    model: nn.Module,
    *,
    num_layers: int,
    std: float = 0.02,
    gain: float | None = None,
    embedding_std: float | None = None,
) -> None:
    """Normal weights, zero biases; layers that write to the residual stream get theirs / sqrt(2 x layers).

    std: of all weights, GPT-2's rule (Radford et al. 2019, 2.3).
    gain: linear layers get gain / sqrt(inputs) instead, which at a width of 128 is four times as much; not heads, and not
    routers, whose first choices should be nearly uniform.
    embedding_std: of embeddings. A small model on few steps learns facts twice as fast at 0.5 as at 0.02.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            scale = std if gain is None or name.endswith(("head", "router")) else gain / math.sqrt(module.in_features)
            residual = name.endswith((".out", ".down"))
            nn.init.normal_(module.weight, std=scale / math.sqrt(2 * num_layers) if residual else scale)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, Experts):
            for weight, depth in ((module.gate_up, 1.0), (module.down, math.sqrt(2 * num_layers))):
                scale = std if gain is None else gain / math.sqrt(weight.shape[2])
                nn.init.normal_(weight, std=scale / depth)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=std if embedding_std is None else embedding_std)
