"""Initial weights of a transformer: normal(0, 0.02), the projections into the residual stream scaled down by depth."""

import math

from torch import nn


def initialise(model: nn.Module, *, num_layers: int, std: float = 0.02) -> None:
    """GPT-2's rule (Radford et al. 2019, 2.3): layers that write to the residual stream get std / sqrt(2 x layers)."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            residual = name.endswith((".out", ".down"))
            nn.init.normal_(module.weight, std=std / math.sqrt(2 * num_layers) if residual else std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=std)
