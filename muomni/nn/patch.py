"""Images to patch embeddings, and patch grids to fewer tokens.

Legend: B batch, H W pixels, S patches a side, P = S x S patches in raster order, D width.
"""

import itertools
from collections.abc import Sequence

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class PatchStem(nn.Module):
    """Patches by one linear map each (Dosovitskiy et al. 2021, arXiv:2010.11929); with channels by a small linear patch, 3x3
    convolutions of stride 2, then one linear map of what is left of a patch: overlapping receptive fields at the cost of a few
    tokens (after Xiao et al. 2021, arXiv:2106.14881; the first map is a patch rather than a convolution because full-resolution
    convolutions took half of a training step on a CPU).

    Args:
        patch: pixels a side of a token; with channels first * 2 ** (len(channels) - 1) times a whole number.
        channels: of the first patch and of each stride-2 convolution. first: pixels a side of the first patch.
    """

    def __init__(self, dim: int, *, patch: int, channels: Sequence[int] = (), first: int = 1) -> None:
        super().__init__()
        rest, odd = divmod(patch, first * 2 ** (len(channels) - 1)) if channels else (patch, 0)
        if odd or not rest:
            raise ValueError(
                f"conv stem: patch {patch} is no multiple of stem_patch {first} x 2 ** {len(channels) - 1} "
                f"(stem_channels {list(channels)})"
            )
        self.first = nn.Conv2d(3, channels[0], kernel_size=first, stride=first) if channels else None
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in itertools.pairwise(channels)
        )
        self.project = nn.Conv2d(channels[-1] if channels else 3, dim, kernel_size=rest, stride=rest)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> (B, P, D)."""
        x = images if self.first is None else F.gelu(self.first(images))
        for conv in self.convs:
            x = F.gelu(conv(x))
        return rearrange(self.project(x), "b d h w -> b (h w) d")


def gather_cells(grid: Tensor, side: int) -> Tensor:
    """Group a patch grid into side x side cells: (B, P, D) -> (B, side * side, patches of a cell, D).

    Raises ValueError where S is no multiple of `side`.
    """
    P = grid.shape[1]
    S = round(P**0.5)
    if S * S != P or S % side:
        raise ValueError(f"an image of {P} patches cannot be pooled to {side} x {side} tokens")
    return rearrange(grid, "b (row i column j) d -> b (row column) (i j) d", row=side, column=side, i=S // side)
