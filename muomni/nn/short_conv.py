"""A short causal convolution of each channel before attention's projections.

Legend: B batch, T time, D width, W kernel.
"""

import torch
from torch import Tensor, nn

from muomni.nn.cache import KVCache


class ShortConv(nn.Module):
    """y[t] = sum over i < W of weight[i] * x[t - i], a weight for each channel; at first y = x.

    A token then shows the tokens just before it, which a small Thinker otherwise has to learn with attention heads: So
    et al. 2021 (Primer, arXiv:2109.08668) after the projections, Allen-Zhu 2025 ("canon layers", Physics of Language
    Models 4.1) before.
    """

    def __init__(self, dim: int, *, kernel: int) -> None:
        super().__init__()
        if kernel < 2:
            raise ValueError(
                f"a short convolution mixes at least 2 tokens, not {kernel}; 0 in the options leaves it out"
            )
        self.weight = nn.Parameter(torch.zeros(kernel, dim))
        with torch.no_grad():
            self.weight[0] = 1.0

    def forward(self, x: Tensor, *, keep: Tensor | None = None, cache: KVCache | None = None, layer: int = 0) -> Tensor:
        """x (B, T, D) -> (B, T, D). keep: (B, T) bool, False for padding, which counts as zeros (a cache has its own)."""
        before, T = len(self.weight) - 1, x.shape[1]
        if cache is not None:
            x = cache.behind(layer, x, count=before)
        else:
            x = nn.functional.pad(x if keep is None else x * keep[..., None], (0, 0, before, 0))
        y = x[:, before:] * self.weight[0]
        for i, weight in enumerate(self.weight[1:], start=1):
            y = torch.addcmul(y, x[:, before - i : before - i + T], weight)
        return y
