"""SNAC (Siuzdak et al. 2024, arXiv:2410.14411) for speech at 24 kHz: convolutions that look both ways, codes at several rates.

A level of stride s has a code for every s of the encoder's outputs; the first level has the longest stride, S. Here a frame of
codes is S of these outputs, and holds all codes of all levels within it, level by level: 1, 2 and 4 codes for strides of 4, 2
and 1, which are seven codebooks. The Talker speaks whole levels: the first 1, 3 or 7 of them.

The networks and the names of their tensors are those of the package snac. Its decoder adds random noise, scaled by a learned
layer; here it adds none, so that a text is spoken alike each time. Variants with local attention (32 and 44 kHz, made for music)
are not built.

Legend: B batch, N samples, T frames of codes, K codebooks, D width, L encoder outputs (latents).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from muomni.models.hf_build import check_value
from muomni.models.hf_codec_families import Family
from muomni.models.waveform_codec import DecoderState, convolutions, receptive_field

#: Fields of config.json, with the package's defaults; `noise`: whether the folder has the layers of the noise.
FIELDS: dict[str, Any] = {
    "sampling_rate": 44100, "encoder_dim": 64, "encoder_rates": [3, 3, 7, 7], "latent_dim": None, "decoder_dim": 1536,
    "decoder_rates": [7, 7, 3, 3], "attn_window_size": 32, "codebook_size": 4096, "codebook_dim": 8,
    "vq_strides": [8, 4, 2, 1], "noise": True, "depthwise": True,
}  # fmt: skip
DILATIONS = (1, 3, 9)


class Snake(nn.Module):
    """x + sin(alpha x)^2 / alpha (Ziyin et al. 2020, arXiv:2006.08195)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.alpha + 1e-9).reciprocal() * torch.sin(self.alpha * x).pow(2)


class Residual(nn.Module):
    """x + convolutions of x."""

    def __init__(self, dim: int, *, dilation: int, groups: int) -> None:
        super().__init__()
        wide = nn.Conv1d(dim, dim, 7, dilation=dilation, padding=3 * dilation, groups=groups)
        self.block = nn.Sequential(Snake(dim), weight_norm(wide), Snake(dim), weight_norm(nn.Conv1d(dim, dim, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class WithoutNoise(nn.Module):
    """The identity, with the weights of the layer that scales the noise."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = weight_norm(nn.Conv1d(dim, dim, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return x


class Stage(nn.Module):
    """One change of rate."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class Encoder(nn.Module):
    """waveform (B, 1, N) -> latents (B, D, L)."""

    def __init__(self, dim: int, rates: Sequence[int], *, depthwise: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [weight_norm(nn.Conv1d(1, dim, 7, padding=3))]
        for rate in rates:
            groups = dim if depthwise else 1
            down = nn.Conv1d(dim, 2 * dim, 2 * rate, stride=rate, padding=math.ceil(rate / 2))
            residuals = (Residual(dim, dilation=dilation, groups=groups) for dilation in DILATIONS)
            layers.append(Stage(*residuals, Snake(dim), weight_norm(down)))
            dim *= 2
        layers.append(weight_norm(nn.Conv1d(dim, dim, 7, padding=3, groups=dim if depthwise else 1)))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class Decoder(nn.Module):
    """latents (B, D, L) -> waveform (B, 1, N)."""

    def __init__(self, latent_dim: int, dim: int, rates: Sequence[int], *, noise: bool, depthwise: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [weight_norm(nn.Conv1d(latent_dim, dim, 7, padding=3))]
        if depthwise:
            wide = nn.Conv1d(latent_dim, latent_dim, 7, padding=3, groups=latent_dim)
            layers = [weight_norm(wide), weight_norm(nn.Conv1d(latent_dim, dim, 1))]
        for index, rate in enumerate(rates):
            inner, outer = dim // 2**index, dim // 2 ** (index + 1)
            up = nn.ConvTranspose1d(
                inner, outer, 2 * rate, stride=rate, padding=math.ceil(rate / 2), output_padding=rate % 2
            )
            groups = outer if depthwise else 1
            residuals = (Residual(outer, dilation=dilation, groups=groups) for dilation in DILATIONS)
            layers.append(Stage(Snake(inner), weight_norm(up), *([WithoutNoise(outer)] if noise else []), *residuals))
        outer = dim // 2 ** len(rates)
        self.model = nn.Sequential(*layers, Snake(outer), weight_norm(nn.Conv1d(outer, 1, 7, padding=3)), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Level(nn.Module):
    """One codebook of a residual quantizer: a code for every `stride` latents, the entry of the nearest direction."""

    def __init__(self, dim: int, *, codebook_size: int, codebook_dim: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.in_proj = weight_norm(nn.Conv1d(dim, codebook_dim, 1))
        self.out_proj = weight_norm(nn.Conv1d(codebook_dim, dim, 1))
        self.codebook = nn.Embedding(codebook_size, codebook_dim)

    def encode(self, latents: Tensor) -> Tensor:
        """latents (B, D, L) -> codes (B, L / stride)."""
        projected = self.in_proj(F.avg_pool1d(latents, self.stride, self.stride)).mT
        entries, wanted = F.normalize(self.codebook.weight), F.normalize(projected, dim=-1)
        distance = wanted.square().sum(-1, keepdim=True) - 2 * wanted @ entries.T + entries.square().sum(-1)
        return (-distance).argmax(-1)  # as the package rounds it

    def decode(self, codes: Tensor) -> Tensor:
        """codes (B, L / stride) -> latents (B, D, L)."""
        return self.out_proj(self.codebook(codes).mT).repeat_interleave(self.stride, dim=-1)


class SnacNetwork(nn.Module):
    """Encoder, quantizer and decoder, their tensors named as in the package snac."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        dim, depthwise = config["encoder_dim"] * 2 ** len(config["encoder_rates"]), config["depthwise"]
        self.encoder = Encoder(config["encoder_dim"], config["encoder_rates"], depthwise=depthwise)
        sizes = {"codebook_size": config["codebook_size"], "codebook_dim": config["codebook_dim"]}
        self.quantizer = nn.Module()
        self.quantizer.quantizers = nn.ModuleList(Level(dim, stride=stride, **sizes) for stride in config["vq_strides"])
        self.decoder = Decoder(
            dim, config["decoder_dim"], config["decoder_rates"], noise=config["noise"], depthwise=depthwise
        )


class Snac(Family):
    """`SNAC` of the package snac."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        whole = FIELDS | dict(config)
        self.check(whole)
        self.strides: list[int] = list(whole["vq_strides"])
        self.counts = [self.strides[0] // stride for stride in self.strides]  # codes of each level in a frame
        self.model = SnacNetwork(whole).eval()
        self.sample_rate, self.codebook_size = whole["sampling_rate"], whole["codebook_size"]
        self.hop, self.num_codebooks = math.prod(whole["encoder_rates"]) * self.strides[0], sum(self.counts)
        latents = receptive_field(convolutions(self.model.decoder), causal=False)
        self.past = self.ahead = -(-latents // self.strides[0])

    def check(self, config: Any) -> None:
        unknown = sorted(set(config) - set(FIELDS))
        if unknown:
            raise ValueError(f"config.{unknown[0]} is no field of SNAC; it has {', '.join(sorted(FIELDS))}")
        for field, value in config.items():
            check_value(field, value)
        if config["attn_window_size"] is not None:
            raise ValueError(
                f"config.attn_window_size={config['attn_window_size']}: a SNAC with local attention is not built: snac_24khz"
            )
        if config["latent_dim"] not in (None, config["encoder_dim"] * 2 ** len(config["encoder_rates"])):
            raise ValueError(f"config.latent_dim={config['latent_dim']}: null is needed")
        strides = config["vq_strides"]
        if (
            not strides
            or any(strides[0] % stride for stride in strides)
            or math.prod(config["encoder_rates"]) != math.prod(config["decoder_rates"])
        ):
            raise ValueError(
                "config: vq_strides divide the first of them, encoder_rates and decoder_rates have one product"
            )

    def check_codebooks(self, count: int) -> None:
        self._levels(count)

    def _levels(self, count: int) -> int:
        """How many levels the first `count` codebooks are."""
        whole = [sum(self.counts[: level + 1]) for level in range(len(self.counts))]
        if count not in whole:
            raise ValueError(f"SNAC speaks whole levels: {' or '.join(map(str, whole))} codebooks, not {count}")
        return whole.index(count) + 1

    def encode(self, waveform: Tensor) -> Tensor:
        padded = F.pad(waveform, (0, -waveform.shape[-1] % self.hop))
        residual = self.model.encoder(padded[:, None])
        codes = []
        for level, count in zip(self._quantizers(), self.counts, strict=True):
            found = level.encode(residual)
            residual = residual - level.decode(found)
            codes.append(found.unflatten(1, (-1, count)))
        return torch.cat(codes, dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        counts = self.counts[: self._levels(codes.shape[-1])]
        latents = torch.zeros((), device=codes.device)
        for level, found in zip(self._quantizers(), codes.split(counts, dim=-1), strict=False):
            latents = latents + level.decode(found.flatten(1))
        waveform: Tensor = self.model.decoder(latents)
        return waveform[:, 0]

    def decode_block(self, codes: Tensor, begin: int, end: int, *, state: DecoderState) -> Tensor:
        return self.decode(codes)[:, begin * self.hop : end * self.hop]

    def _quantizers(self) -> Any:
        return self.model.quantizer.quantizers
