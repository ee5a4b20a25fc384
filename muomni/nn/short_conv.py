"""A short causal convolution of each channel before attention's projections.

Legend: B batch, T time, D width, W kernel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.nn.cache import KVCache
from muomni.nn.packed import PackedRows

#: Of the tokens 1, 2, ... before each: (B, T, 1) bool, True where it mixes with that token; None: always.
Mixes = list[Tensor | None]


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

    def mixes(self, keep: Tensor | PackedRows | None, *, apart: Tensor | None) -> Mixes:
        """What a forward without a cache takes, the same for all blocks. keep: as in `Attention`: tokens of another number,
        padding among them, or that may not be seen count as zeros. apart: as in `forward`."""
        found: Mixes = []
        for i in range(1, len(self.weight)):
            mix = None if apart is None else ~apart
            if keep is not None:
                if isinstance(keep, PackedRows):
                    seen, length = keep.behind(i), keep.segments.shape[1]
                else:
                    length = keep.shape[1]
                    seen = keep[:, i:] == keep[:, :-i] if keep.dim() == 2 else keep.diagonal(-i, dim1=1, dim2=2)
                seen = F.pad(seen, (min(i, length), 0))  # a row may be shorter than the kernel
                mix = seen if mix is None else mix & seen
            found.append(None if mix is None else mix[..., None])
        return found

    def forward(
        self,
        x: Tensor,
        *,
        keep: Tensor | PackedRows | None = None,
        apart: Tensor | None = None,
        cache: KVCache | None = None,
        layer: int = 0,
        mixes: Mixes | None = None,
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D). keep: see `mixes` (a cache has its own). apart: (B, T) bool, True for tokens that neither
        mix nor are mixed: those of a picture, whose neighbours in the row are not their neighbours. mixes: where they were
        made for several blocks at once."""
        before, T = len(self.weight) - 1, x.shape[1]
        if mixes is None:
            mixes = self.mixes(keep if cache is None else None, apart=apart)
        y = x * self.weight[0]
        if apart is not None:
            x = x * ~apart[..., None]
        x = cache.append_conv_inputs(layer, x, count=before) if cache is not None else F.pad(x, (0, 0, before, 0))
        for i, (weight, mix) in enumerate(zip(self.weight[1:], mixes, strict=True), start=1):
            earlier = x[:, before - i : before - i + T]
            y = torch.addcmul(y, earlier if mix is None else earlier * mix, weight)
        return y
