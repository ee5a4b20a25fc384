"""Images to patch embeddings, and patch grids to fewer tokens.

Legend: B batch, H W pixels, S patches a side, P = S x S patches in raster order, D width.
"""

import itertools
from collections.abc import Sequence

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class PatchStem(nn.Module):
    """One linear map a patch (Dosovitskiy et al. 2021, arXiv:2010.11929)."""

    def __init__(self, dim: int, *, patch: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(3, dim, kernel_size=patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> (B, P, D)."""
        return rearrange(self.project(images), "b d h w -> b (h w) d")


class ImageConvStem(nn.Module):
    """A small linear patch, 3x3 convolutions of stride 2, then one linear map of what is left of a patch: overlapping
    receptive fields at the cost of a few tokens (after Xiao et al. 2021, arXiv:2106.14881; the first map is a patch
    rather than a convolution because full-resolution convolutions took half of a training step on a CPU).

    Args:
        patch: pixels a side of a token: first * 2 ** (len(channels) - 1) times a whole number.
        first: pixels a side of the first linear patch. channels: of it and of each stride-2 convolution.
    """

    def __init__(self, dim: int, *, patch: int, first: int, channels: Sequence[int]) -> None:
        super().__init__()
        rest, odd = divmod(patch, first * 2 ** (len(channels) - 1))
        if odd or not rest:
            raise ValueError(
                f"conv stem: patch {patch} is no multiple of stem_patch {first} x 2 ** {len(channels) - 1} "
                f"(stem_channels {list(channels)})"
            )
        self.first = nn.Conv2d(3, channels[0], kernel_size=first, stride=first)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in itertools.pairwise(channels)
        )
        self.project = nn.Conv2d(channels[-1], dim, kernel_size=rest, stride=rest)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> (B, P, D)."""
        x = F.gelu(self.first(images))
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
