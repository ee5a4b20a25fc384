"""Low-rank adapters of linear layers: LoRA (Hu et al. 2021, arXiv:2106.09685) and DoRA (Liu et al. 2024, arXiv:2402.09353).

    LoRA   y = W x + s B A x + b                         A (rank, inputs) random, B (outputs, rank) zero
    DoRA   y = m (W + s B A) x / |W + s B A| + b         norms of rows; m starts as those of W

An adapted layer holds the weight and bias of the layer that it replaces, under the same names and frozen, and next to them
`lora_a`, `lora_b` and `lora_magnitude`. So a state dict has its usual keys and a few more, and `merged_state` makes a plain
one of it. At first the output equals the plain layer's bit for bit: what is added is zero.

Not torch's parametrizations: they multiply B A at each step, and the backward pass then computes the gradient of the whole
weight. Not peft: its layers rename the weights that they wrap, and checkpoints and exports here depend on names; tests compare
both.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Of every parameter that an adapter adds.
PREFIX = "lora_"


class LoRALinear(nn.Module):
    """A linear layer with its weights frozen, and an update of rank `rank` that learns.

    scale: s above. dropout: of what the update reads, while training. `lora_a` is drawn as in the paper's code.
    """

    def __init__(self, layer: nn.Linear, *, rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.in_features, self.out_features, self.rank, self.scale = layer.in_features, layer.out_features, rank, scale
        self.weight, self.bias = layer.weight, layer.bias
        like: dict[str, Any] = {"device": layer.weight.device, "dtype": layer.weight.dtype}
        self.lora_a = nn.Parameter(torch.empty(rank, layer.in_features, **like))
        self.lora_b = nn.Parameter(torch.zeros(layer.out_features, rank, **like))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        self.dropout = nn.Dropout(dropout)
        self.weight.requires_grad_(False)
        if self.bias is not None:
            self.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., inputs) -> (..., outputs)."""
        return F.linear(x, self.weight, self.bias) + self.update(x)

    def update(self, x: Tensor) -> Tensor:
        """s B A x."""
        return F.linear(F.linear(self.dropout(x), self.lora_a) * self.scale, self.lora_b)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain layer that computes the same, dropout off."""
        plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        magnitude = getattr(self, "lora_magnitude", None)
        weight = merged_weight(self.weight, self.lora_a, self.lora_b, magnitude, scale=self.scale)
        plain.weight, plain.bias = nn.Parameter(weight, requires_grad=False), self.bias
        return plain.train(self.training)

    def extra_repr(self) -> str:
        """As a linear layer's, and the rank."""
        return f"in_features={self.in_features}, out_features={self.out_features}, rank={self.rank}"


class DoRALinear(LoRALinear):
    """The same with a length of its own for each row of the weight. Its norm counts as a constant in the backward pass (the
    paper's 4.3), and rows of the frozen weight must not be zero."""

    def __init__(self, layer: nn.Linear, *, rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__(layer, rank=rank, scale=scale, dropout=dropout)
        self.lora_magnitude = nn.Parameter(_row_norms(layer.weight.detach()))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., inputs) -> (..., outputs)."""
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            norms = _row_norms(torch.addmm(self.weight, self.lora_b, self.lora_a, alpha=self.scale))
        plain = F.linear(x, self.weight, self.bias)
        ratio = (self.lora_magnitude / norms).to(plain.dtype)
        if self.bias is None:
            return (plain + self.update(x)) * ratio
        # Of a ratio of 1 exactly the plain layer's output, which the bias after a product with the ratio is not.
        return plain + (ratio - 1) * (plain - self.bias.to(plain.dtype)) + ratio * self.update(x)


LAYERS: dict[str, type[LoRALinear]] = {"lora": LoRALinear, "dora": DoRALinear}


def merged_weight(weight: Tensor, a: Tensor, b: Tensor, magnitude: Tensor | None, *, scale: float) -> Tensor:
    """(outputs, inputs), of the weight's dtype; computed in float32 at least."""
    merged = torch.addmm(*(each.float() if weight.itemsize < 4 else each for each in (weight, b, a)), alpha=scale)
    if magnitude is not None:
        merged = merged * (magnitude / _row_norms(merged))[:, None]
    return merged.to(weight.dtype)


def merged_state(state: Mapping[str, Tensor], *, scale: float) -> dict[str, Tensor]:
    """The state dict of a module with adapters -> that of the plain module. Raises ValueError where the shapes of an adapter do
    not fit its weight."""
    plain = {key: value for key, value in state.items() if not key.rpartition(".")[2].startswith(PREFIX)}
    for key, a in state.items():
        owner, _, leaf = key.rpartition(".")
        if leaf != "lora_a":
            continue
        weight, b = plain.get(f"{owner}.weight"), state.get(f"{owner}.lora_b")
        magnitude = state.get(f"{owner}.lora_magnitude")
        if weight is None or b is None or not _fit(weight, a, b, magnitude):
            raise ValueError(f"the adapter {owner} does not fit a weight")
        plain[f"{owner}.weight"] = merged_weight(weight, a, b, magnitude, scale=scale)
    return plain


def _fit(weight: Tensor, a: Tensor, b: Tensor, magnitude: Tensor | None) -> bool:
    outputs, inputs = weight.shape if weight.dim() == 2 else (-1, -1)
    lengths = (outputs,) if magnitude is None else tuple(magnitude.shape)
    return b.dim() == 2 and a.shape == (b.shape[1], inputs) and len(b) == outputs and lengths == (outputs,)


def _row_norms(weight: Tensor) -> Tensor:
    """(outputs, inputs) -> (outputs)."""
    return torch.linalg.vector_norm(weight, dim=1)
