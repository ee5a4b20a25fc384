"""A short causal convolution of each channel before attention's projections.

Legend: B batch, T time, D width, W kernel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.nn.chunked import ChunkCache
from muomni.nn.context import NO_CONTEXT, AttentionContext


class ShortConv(nn.Module):
    """y[t] = sum over i < W of weight[i] * x[t - i], a weight for each channel; at first y = x.

    A token then carries the tokens just before it, which a small Thinker otherwise has to learn with attention heads: So
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

    def tap_masks(self, context: AttentionContext, *, length: int) -> list[Tensor | None]:
        """Of the tokens 1, 2, ... before each: (B, T, 1) bool, True where it is mixed in, None: always. Others count as zeros:
        what the mask hides, padding, and tokens of `conv_skip`. The same for all blocks of a forward."""
        masks: list[Tensor | None] = []
        for distance in range(1, len(self.weight)):
            mixed = None if context.conv_skip is None else ~context.conv_skip
            if context.mask is not None:
                back = context.mask.attends_back(distance)
                back = F.pad(back, (min(distance, length), 0))  # a row may be shorter than the kernel
                mixed = back if mixed is None else mixed & back
            masks.append(None if mixed is None else mixed[..., None])
        return masks

    def forward(self, x: Tensor, context: AttentionContext = NO_CONTEXT, *, layer: int = 0) -> Tensor:
        """x (B, T, D) -> (B, T, D). Tokens of `context.conv_skip` neither mix nor are mixed in: those of an image, whose
        neighbours in the row are not their neighbours."""
        before, T = len(self.weight) - 1, x.shape[1]
        masks = None if context.kernel is None else context.kernel.tap_masks
        if masks is None:
            masks = self.tap_masks(context, length=T)
        y = x * self.weight[0]
        if context.conv_skip is not None:
            x = x * ~context.conv_skip[..., None]
        if context.cache is None:
            x = F.pad(x, (0, 0, before, 0))
        else:
            assert not isinstance(context.cache, ChunkCache), "a short convolution is of decoders"
            x = context.cache.append_conv_inputs(layer, x, count=before)
        for i, (weight, mask) in enumerate(zip(self.weight[1:], masks, strict=True), start=1):
            earlier = x[:, before - i : before - i + T]
            y = torch.addcmul(y, earlier if mask is None else earlier * mask, weight)
        return y
