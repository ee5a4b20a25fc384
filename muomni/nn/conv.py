"""Convolutions over time in which padding never changes a valid frame: every input is zeroed beyond its length.

Legend: B batch, T time, M mel bins, C channels, D width, R downsampling.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.nn.chunked import ChunkCache, ChunkMask
from muomni.nn.context import NO_CONTEXT, AttentionContext
from muomni.nn.masks import PaddingMask
from muomni.nn.mlp import GeluMLP
from muomni.nn.transformer import Block

Length = TypeVar("Length", Tensor, int)


def frame_mask(lengths: Tensor, total: int) -> Tensor:
    """lengths (B) -> (B, total) bool, True for the first `length` frames of each row."""
    return torch.arange(total, device=lengths.device)[None] < lengths[:, None]


def silence(x: Tensor, keep: Tensor | None) -> Tensor:
    """x (B, T, D) with frames outside of keep (B, T) set to zero; None: all are kept."""
    return x if keep is None else x * keep[..., None].to(x.dtype)


class AudioStem(nn.Module):
    """Stride-2 3x3 convolutions over (time, frequency) with GELU, flattened channel-major and projected.

    Args:
        n_mels: M. channels: C. dim: D of the output. downsample: R, 2, 4 or 8: each convolution halves once.
    """

    def __init__(self, *, n_mels: int, channels: int, dim: int, downsample: int) -> None:
        super().__init__()
        halvings = downsample.bit_length() - 1
        if downsample != 2**halvings or halvings < 1:
            raise ValueError(f"downsample must be 2, 4 or 8, not {downsample}")
        inputs = [1] + [channels] * (halvings - 1)
        self.downsample = downsample
        self.convs = nn.ModuleList(nn.Conv2d(count, channels, 3, stride=2, padding=1) for count in inputs)
        self.proj = nn.Linear(channels * -(-n_mels // downsample), dim)

    def out_lengths(self, lengths: Length) -> Length:
        """Valid frames after the stem: ceil(length / R)."""
        return -(-lengths // self.downsample)

    def forward(self, mel: Tensor, lengths: Tensor | None) -> Tensor:
        """mel (B, T, M) -> (B, ceil(T / R), D); lengths (B) of valid frames, None when all are."""
        x = mel[:, None]  # B C T M
        for conv in self.convs:
            if lengths is not None:
                x = x * frame_mask(lengths, x.shape[2])[:, None, :, None].to(x.dtype)
                lengths = -(-lengths // 2)
            x = F.gelu(conv(x))
        return self.proj(x.transpose(1, 2).flatten(2))


class TimeConv(nn.Module):
    """Depthwise convolution over time, zero-padded to keep the length.

    Args:
        dim: D. kernel: frames that an output frame depends on, odd.
    """

    def __init__(self, dim: int, *, kernel: int) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"the kernel must be odd, not {kernel}")
        self.conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def forward(self, x: Tensor, *, keep: Tensor | None) -> Tensor:
        """x (B, T, D) -> (B, T, D); keep (B, T) bool, True for valid frames."""
        return self.conv(silence(x, keep).transpose(1, 2)).transpose(1, 2)


class ConvBlock(Block):
    """A block that begins with a depthwise convolution: x + conv(norm(x)), then attention, then the MLP."""

    def __init__(self, *, kernel: int, norm: Callable[[], nn.Module], **options: Any) -> None:
        super().__init__(norm=norm, **options)
        self.conv_norm, self.conv = norm(), TimeConv(self.attention.qkv.in_features, kernel=kernel)

    def forward(
        self, x: Tensor, context: AttentionContext = NO_CONTEXT, *, layer: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D) -> (B, T, D), for whole rows or chunks: the convolution is centred, so there is no packing."""
        x = x + self.dropout(self._mixed(self.conv_norm(x), context, layer=layer))
        return super().forward(x, context, layer=layer)

    def _mixed(self, x: Tensor, context: AttentionContext, *, layer: int) -> Tensor:
        if isinstance(context.cache, ChunkCache):
            return context.cache.convolve(self.conv.conv, x, layer=layer)
        assert context.cache is None, "a block with a centred convolution cannot be decoded token by token"
        if isinstance(context.mask, ChunkMask):
            return context.mask.convolve(self.conv.conv, x)
        assert context.mask is None or isinstance(context.mask, PaddingMask), "it would mix neighbours in a packed row"
        mixed: Tensor = self.conv(x, keep=None if context.mask is None else context.mask.keep)
        return mixed


class ConvNeXtBlock(nn.Module):
    """x + mlp(norm(depthwise(x))) (Liu et al. 2022, arXiv:2201.03545; over time as in Vocos, arXiv:2306.00814)."""

    def __init__(self, dim: int, *, kernel: int, hidden: int, norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.conv = TimeConv(dim, kernel=kernel)
        self.norm = norm()
        self.mlp = GeluMLP(dim, hidden=hidden)

    def forward(self, x: Tensor, *, keep: Tensor | None) -> Tensor:
        """x (B, T, D) -> (B, T, D); keep (B, T) bool, True for valid frames."""
        return x + self.mlp(self.norm(self.conv(x, keep=keep)))
