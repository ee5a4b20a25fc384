"""Pictures to patch embeddings, and patch grids to fewer tokens.

Legend: B batch, H W pixels, S patches a side, P = S x S patches in reading order, D width, k tokens a side.
"""

import itertools
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class PatchStem(nn.Module):
    """One linear map a patch (Dosovitskiy et al. 2021, arXiv:2010.11929)."""

    def __init__(self, dim: int, *, patch: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(3, dim, kernel_size=patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> (B, P, D)."""
        return self.project(images).flatten(2).transpose(1, 2)


class ConvStem(nn.Module):
    """A small linear patch, 3x3 convolutions of stride 2, then one linear map of what is left of a patch: overlapping
    receptive fields at the cost of a few tokens (after Xiao et al. 2021, arXiv:2106.14881; the first map is a patch
    rather than a convolution because full-resolution convolutions took half of a training step on a CPU).

    Args:
        patch: pixels a side of what one token stands for: first * 2 ** (len(channels) - 1) times a whole number.
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
        return self.project(x).flatten(2).transpose(1, 2)


def gather_cells(grid: Tensor, side: int) -> Tensor:
    """Sort a patch grid into side x side cells: (B, P, D) -> (B, side * side, patches of a cell, D).

    The patches' grid must be a multiple of `side`.
    """
    B, P, D = grid.shape
    S = round(P**0.5)
    if S * S != P or S % side:
        raise ValueError(f"a picture of {P} patches cannot be pooled to {side} x {side} tokens")
    step = S // side
    cells = grid.view(B, side, step, side, step, D).transpose(2, 3)
    return cells.reshape(B, side * side, step * step, D)
