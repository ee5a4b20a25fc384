"""A convolutional image encoder with the output of the vision transformer: a summary and a patch grid.

For a few thousand images, which do not teach a transformer what a neighbourhood is. A whitening stem, then stages of residual
3x3 convolutions with batch norm and GELU (He et al. 2016, arXiv:1512.03385), as in the fast CIFAR-10 recipes (Page 2018,
github.com/davidcpage/cifar10-fast; Jordan 2024, arXiv:2404.00498). The last map is averaged to the cells of the grid, the
grid to the summary.

Batch norm makes an image depend on its batch while it is trained; in evaluation mode it does not.

Legend: B batch, I image side in pixels, S cells a side, P = S x S cells in raster order, C channels, D width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from muomni.models.outputs import VisionOutput
from muomni.models.registry import register

WHITENED = 4  # pixels a side of what the stem whitens
FLOOR = 1e-3  # added to the variance of a whitened component


class ConvStage(nn.Module):
    """(B, C, H, W) -> (B, width, H / stride, W / stride): a convolution that changes width and side, then residual ones."""

    def __init__(self, channels: int, width: int, *, stride: int, num_blocks: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(num_blocks))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(num_blocks + 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norms[0](self.first(x)))
        for conv, norm in zip(self.convs, self.norms[1:], strict=True):
            x = x + F.gelu(norm(conv(x)))
        return x


@register("conv_vision")
class ConvEncoder(nn.Module):
    """Image -> summary and patch grid. The stem's weights are random until `whiten` is called, which stage=vision does.

    Args:
        image_size: I, a multiple of `patch`. patch: pixels a side of a cell of the grid, a multiple of 2 ** len(widths).
        dim: D. stem_width: channels of the whitening stem, which halves the side and does not learn.
        widths: channels of each stage; each but the first halves the side. num_blocks: residual convolutions of a stage.
    """

    def __init__(
        self, *, image_size: int, patch: int, dim: int, stem_width: int, widths: Sequence[int], num_blocks: int
    ) -> None:
        super().__init__()
        self.whitening: Tensor
        if image_size % patch:
            raise ValueError(f"conv_vision: image_size {image_size} is no multiple of patch {patch}")
        self.pool, odd = divmod(patch, 2 ** len(widths))
        if odd or not self.pool:
            raise ValueError(
                f"conv_vision: patch {patch} is no multiple of {2 ** len(widths)}: the stem and each of the {len(widths)} "
                f"stages (widths {list(widths)}) but the first halve the side"
            )
        self.image_size, self.dim, self.side = image_size, dim, image_size // patch
        # A buffer: it is computed, not learned.
        self.register_buffer("whitening", nn.init.kaiming_normal_(torch.empty(stem_width, 3, WHITENED, WHITENED)))
        self.stem_bias = nn.Parameter(torch.zeros(stem_width))
        channels = [stem_width, *widths]
        self.stages = nn.ModuleList(
            ConvStage(before, after, stride=2 if number else 1, num_blocks=num_blocks)
            for number, (before, after) in enumerate(zip(channels, widths, strict=False))
        )
        self.project = nn.Conv2d(channels[-1], dim, 1, bias=False)
        self.norm = nn.BatchNorm2d(dim)

    @torch.no_grad()
    def whiten(self, images: Tensor) -> None:
        """Set the stem's weights so that its outputs on images (N, 3, I, I) are uncorrelated, of variance 1, the largest
        components of 4 x 4 pixels first, each with its negative, which GELU would cut off."""
        pixels = images.float().unfold(2, WHITENED, 2).unfold(3, WHITENED, 2)
        patches = rearrange(pixels, "n c h w i j -> (n h w) (c i j)")
        variances, components = torch.linalg.eigh(patches.mT @ patches / len(patches))
        white = (components / (variances.clamp(min=0) + FLOOR).sqrt()).mT.flip(0)
        white = white[: (len(self.whitening) + 1) // 2]
        both = torch.cat((white, -white))[: len(self.whitening)]
        self.whitening[: len(both)] = both.view(-1, 3, WHITENED, WHITENED)

    def forward(self, images: Tensor) -> VisionOutput:
        """images (B, 3, I, I), normalised. Raises ValueError for another size."""
        _, _, H, W = images.shape
        if self.image_size != H or self.image_size != W:
            raise ValueError(f"conv_vision: images of {H} x {W}, the encoder was made for {self.image_size}")
        # Convolutions of a CPU and of a GPU's tensor cores read channels last, without copies in between.
        x = images.contiguous(memory_format=torch.channels_last)
        x = F.gelu(F.conv2d(x, self.whitening, self.stem_bias, stride=2, padding=1))
        for stage in self.stages:
            x = stage(x)
        grid = rearrange(self.norm(self.project(F.avg_pool2d(x, self.pool))), "b d h w -> b (h w) d")
        return VisionOutput(cls=grid.mean(dim=1, keepdim=True), grid=grid)
