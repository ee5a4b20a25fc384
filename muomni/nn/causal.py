"""ConvNeXt blocks over time that look back alone, whole or piece by piece.

What a piece needs of the pieces before it is in a state that the caller owns. Each number is computed by the same operations in
the same order however the time was cut, so that the pieces equal the whole, as far as the library's matrix products compute a row
alike among few and many: to the bit at the sizes that are shipped (MKL, AVX512), else to rounding.

Legend: B batch, T time, D width, W kernel.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.nn.mlp import GeluMLP
from muomni.nn.norm import RMSNorm

#: What pieces leave for the next one, by name; empty before the first.
State = dict[str, Any]
#: Products of fewer rows take another path of the library (measured of MKL), whose last bit differs.
FEWEST_ROWS = 4


def by_rows(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """layer(x) of a layer that treats the rows of x (B, T, D) alike: each to the bit as among any number of others."""
    T = x.shape[1]
    return layer(x) if T >= FEWEST_ROWS else layer(F.pad(x, (0, 0, 0, FEWEST_ROWS - T)))[:, :T]


class CausalConv(nn.Module):
    """Depthwise: y[t] = bias + sum over i < W of weight[i] * x[t - W + 1 + i]; before the first x are zeros.

    As sums of products of whole tensors: on a CPU faster than F.conv1d, and the order of the sum is known.
    """

    def __init__(self, dim: int, *, kernel: int) -> None:
        super().__init__()
        bound = kernel**-0.5
        self.weight = nn.Parameter(torch.empty(kernel, dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor, *, state: State, name: str) -> Tensor:
        """x (B, T, D) -> (B, T, D). state[name]: the last W - 1 of the inputs so far."""
        T, before = x.shape[1], len(self.weight) - 1
        past = state.get(name)
        x = F.pad(x, (0, 0, before, 0)) if past is None else torch.cat([past, x], dim=1)
        state[name] = x[:, x.shape[1] - before :]
        y = x[:, :T] * self.weight[0] + self.bias
        for i in range(1, before + 1):
            y = y + x[:, i : i + T] * self.weight[i]
        return y


class CausalBlock(nn.Module):
    """x + mlp(norm(conv(x))), as `ConvNeXtBlock` of conv.py, which looks both ways."""

    def __init__(self, dim: int, *, kernel: int, hidden: int) -> None:
        super().__init__()
        self.conv = CausalConv(dim, kernel=kernel)
        self.norm = RMSNorm(dim, eps=1e-5)
        self.mlp = GeluMLP(dim, hidden=hidden)

    def forward(self, x: Tensor, *, state: State, name: str) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        return x + by_rows(self.mlp, self.norm(self.conv(x, state=state, name=name)))
