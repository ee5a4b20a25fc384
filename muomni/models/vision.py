"""The image encoder: a vision transformer that returns a summary token (CLS) and its patch grid.

Pre-norm blocks with biases and LayerNorm, learned positions, final RMSNorm (Dosovitskiy et al. 2021, arXiv:2010.11929).

Legend: B batch, I image side in pixels, P patches in raster order, D width.
"""

from functools import partial

import torch
from torch import Tensor, nn

from muomni.models.outputs import VisionOutput
from muomni.models.registry import register
from muomni.nn.attention import Attention
from muomni.nn.initialise import initialise
from muomni.nn.mlp import GeluMLP
from muomni.nn.patch import PatchStem
from muomni.nn.transformer import stack


@register("vision")
class VisionTransformer(nn.Module):
    """Image -> CLS and patch grid.

    Args:
        image_size: I, a multiple of `patch`. patch: pixels a side of a token.
        dim, num_layers, num_heads, ff_dim: shape of the blocks.
        stem_channels: widths of the stem's convolutions; empty is the plain linear patch embedding.
        stem_patch: pixels a side of the convolutional stem's first patch (no use without stem_channels).
        dropout: in the blocks.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch: int,
        dim: int,
        num_layers: int,
        num_heads: int,
        ff_dim: int,
        stem_channels: list[int] | tuple[int, ...] = (),
        stem_patch: int = 2,
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if image_size % patch:
            raise ValueError(f"vision: image_size {image_size} is no multiple of patch {patch}")
        self.image_size, self.dim, self.side = image_size, dim, image_size // patch
        attention = partial(Attention, heads=num_heads, kv_heads=num_heads, causal=False, bias=True)
        mlp, norm = partial(GeluMLP, hidden=ff_dim), nn.LayerNorm
        self.transformer = stack(
            num_layers, dim, attention=attention, mlp=mlp, dropout=dropout, norm_eps=norm_eps, norm=norm
        )
        self.cls = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, self.side**2 + 1, dim) * 0.02)
        initialise(self, num_layers=num_layers)
        # After `initialise`: a stem keeps the scale of its fan-in.
        self.stem = PatchStem(dim, patch=patch, channels=stem_channels, first=stem_patch)

    def forward(self, images: Tensor) -> VisionOutput:
        """images (B, 3, I, I), normalised. Raises ValueError for another size."""
        B, _, H, W = images.shape
        if self.image_size != H or self.image_size != W:
            raise ValueError(f"vision: images of {H} x {W}, the encoder was made for {self.image_size}")
        x = torch.cat((self.cls.expand(B, -1, -1), self.stem(images)), dim=1) + self.positions
        x = self.transformer(x).hidden
        return VisionOutput(cls=x[:, :1], grid=x[:, 1:])
