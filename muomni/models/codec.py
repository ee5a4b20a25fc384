"""The codec: log-mel -> codes at 12.5 Hz -> log-mel.

The published reference maps one mel frame (hop 1280) to one row of codes by a linear layer each way; the other sizes
fold `stride` frames of the 100 Hz mel into one and put ConvNeXt blocks on both sides of the quantiser.

Legend: B batch, T frames, M mel bins, R stride, T' = ceil(T / R), W width, D width of a code vector, K codebooks.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from muomni.models.outputs import CodecOutput
from muomni.models.registry import register
from muomni.nn.conv import ConvNeXtBlock, frame_mask, silence
from muomni.nn.norm import RMSNorm
from muomni.nn.rvq import ResidualQuantizer


class ConvNeXtStack(nn.Module):
    """Frames of `inputs` numbers -> width W, ConvNeXt blocks, norm, -> frames of `outputs` numbers."""

    def __init__(self, *, inputs: int, outputs: int, width: int, num_layers: int, kernel: int, ff_dim: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, kernel=kernel, hidden=ff_dim, norm=lambda: RMSNorm(width, eps=1e-5))
            for _ in range(num_layers)
        )
        self.norm = RMSNorm(width, eps=1e-5)
        self.proj_out = nn.Linear(width, outputs)

    def forward(self, x: Tensor, *, keep: Tensor | None) -> Tensor:
        """x (B, T', inputs) -> (B, T', outputs); keep (B, T') bool, True for valid frames."""
        x = self.proj_in(x)
        for block in self.blocks:
            x = block(x, keep=keep)
        return self.proj_out(self.norm(x))


class FrameLinear(nn.Module):
    """One linear layer for each frame: the reference's encoder and decoder."""

    def __init__(self, *, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, *, keep: Tensor | None) -> Tensor:
        """x (B, T', inputs) -> (B, T', outputs); keep is ignored."""
        return self.proj(x)


@register("codec")
class Codec(nn.Module):
    """Encoder, residual quantizer, decoder.

    Args:
        n_mels: M. stride: R, mel frames a row of codes. dim: D. num_codebooks: K. codebook_size: entries of each.
        num_layers: ConvNeXt blocks on each side; 0 is one linear layer each. width: W. kernel, ff_dim: of the blocks.
        decay, dropout, idle: see `ResidualQuantizer`.
    """

    def __init__(
        self,
        *,
        n_mels: int,
        stride: int,
        dim: int,
        num_codebooks: int,
        codebook_size: int,
        num_layers: int,
        width: int,
        kernel: int,
        ff_dim: int,
        decay: float | None,
        dropout: float,
        idle: float,
    ) -> None:
        super().__init__()
        self.n_mels, self.stride = n_mels, stride
        self.num_codebooks, self.codebook_size = num_codebooks, codebook_size
        self.reach = num_layers * (kernel // 2)  # rows of codes on each side that a row of mel frames depends on
        shape = {"width": width, "num_layers": num_layers, "kernel": kernel, "ff_dim": ff_dim}
        side: Callable[..., nn.Module] = partial(ConvNeXtStack, **shape) if num_layers else FrameLinear
        self.encoder = side(inputs=n_mels * stride, outputs=dim)
        self.decoder = side(inputs=dim, outputs=n_mels * stride)
        self.quantizer = ResidualQuantizer(
            dim=dim, num_codebooks=num_codebooks, codebook_size=codebook_size, decay=decay, dropout=dropout, idle=idle
        )

    def code_lengths(self, lengths: Tensor) -> Tensor:
        """Rows of codes of clips with so many mel frames: ceil(length / R)."""
        return -(-lengths // self.stride)

    def _latent(self, mel: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        T = mel.shape[1]
        mel = F.pad(silence(mel, None if lengths is None else frame_mask(lengths, T)), (0, 0, 0, -T % self.stride))
        x = rearrange(mel, "b (t r) m -> b t (r m)", r=self.stride)
        keep = None if lengths is None else frame_mask(self.code_lengths(lengths), x.shape[1])
        return self.encoder(x, keep=keep), keep

    def _unfold(self, x: Tensor) -> Tensor:
        return rearrange(x, "b t (r m) -> b (t r) m", r=self.stride)

    def encode(self, mel: Tensor, lengths: Tensor | None = None) -> Tensor:
        """mel (B, T, M); lengths (B) of valid frames -> codes (B, T', K), under autocast those of float32."""
        with torch.autocast(mel.device.type, enabled=False):
            return self.quantizer.encode(self._latent(mel, lengths)[0])

    def decode(self, codes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """codes (B, T', n) of the first n <= K codebooks; lengths (B) of valid rows -> mel (B, T' R, M)."""
        keep = None if lengths is None else frame_mask(lengths, codes.shape[1])
        return self._unfold(self.decoder(self.quantizer.decode(codes), keep=keep))

    def forward(self, mel: Tensor, lengths: Tensor | None = None) -> CodecOutput:
        """mel (B, T, M); lengths (B) of valid frames, default all -> the mel rebuilt, of the same shape."""
        latent, keep = self._latent(mel, lengths)
        quantized = self.quantizer(latent, keep=keep)
        rebuilt = self._unfold(self.decoder(quantized.quantized, keep=keep))[:, : mel.shape[1]]
        return CodecOutput(mel=rebuilt, codes=quantized.codes, commitment=quantized.commitment)
