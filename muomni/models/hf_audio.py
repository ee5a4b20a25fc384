"""Audio encoders of transformers with the output of ours: Whisper's (Radford et al. 2022, arXiv:2212.04356), wav2vec 2.0
(Baevski et al. 2020, arXiv:2006.11477), HuBERT (Hsu et al. 2021, arXiv:2106.07447). What they read in the mel's place:
frontends/pretrained_audio.py.

A valid frame never depends on what a batch is padded by. Whisper reads windows of a fixed length, the rest of each filled by the
silence that its own feature extractor would put there, and attends to it, as it was trained to. wav2vec 2.0 and HuBERT mask the
attention; the group norm of their first layer, which in transformers counts the padding, is computed over a clip's own frames.

Legend: B batch, T frames, M mel bins (or samples of a frame), T' = ceil(T / downsample), D width, S symbols, W window in frames.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.models.hf_config import AUDIO_FAMILIES, build_encoder
from muomni.models.outputs import AudioOutput
from muomni.models.registry import check_characters, register
from muomni.nn.conv import Length, frame_mask

SILENCE = -1.5  # of Whisper's mel: 1e-10, and at most 2 (8 decades) below the loudest bin
BELOW_PEAK = 2.0


@register("hf_audio")
class HfAudio(nn.Module):
    """Encoder, and a CTC head where `num_symbols` is above 0.

    Args:
        model_type, config: transformers' names for the encoder and its values (hf_config.py).
        n_mels: M. downsample: 2 for Whisper, else 1. dim: D: the configuration's own, for those who read the options alone.
        num_symbols: S, the blank included; 0: no head, and logits (B, T', 0).
        characters: of the head, after the blank and before one for all others; None: the standard ones.
    """

    def __init__(
        self,
        *,
        model_type: str,
        config: Mapping[str, Any],
        n_mels: int,
        dim: int,
        downsample: int,
        num_symbols: int = 0,
        characters: str | None = None,
    ) -> None:
        super().__init__()
        if model_type not in AUDIO_FAMILIES:
            raise ValueError(f"hf_audio: model_type={model_type!r}; available: {', '.join(AUDIO_FAMILIES)}")
        if num_symbols:
            check_characters(characters, num_symbols=num_symbols, others=1)
        own = sizes_of(model_type, config)
        if (n_mels, dim, downsample) != own:
            raise ValueError(
                f"hf_audio: n_mels, dim and downsample of this config are {own}, not {n_mels, dim, downsample}"
            )
        self.model_type, self.characters, self.config = model_type, characters, dict(config)
        self.n_mels, self.num_symbols, self.dim, self.downsample = n_mels, num_symbols, dim, downsample
        self.encoder = build_encoder(model_type, config)
        self.head = nn.Linear(dim, num_symbols) if num_symbols else nn.Identity()

    def out_lengths(self, lengths: Length) -> Length:
        """Encoder frames of so many frames."""
        return (lengths + self.downsample - 1) // self.downsample

    def forward(self, mel: Tensor, lengths: Tensor | None = None, *, after_blocks: Collection[int] = ()) -> AudioOutput:
        """mel (B, T, M), lengths (B) of valid frames, default all -> AudioOutput at T'. Frames beyond a row's length may be
        anything. Raises ValueError for `after_blocks`: the head writes after the last block alone."""
        if after_blocks:
            raise ValueError(
                "an encoder of transformers writes after its last block alone: leave module.intermediate out"
            )
        B, T, _ = mel.shape
        valid = torch.full((B,), T, device=mel.device) if lengths is None else lengths
        hidden = self._whisper(mel, valid) if self.model_type == "whisper" else self._waveform(mel, valid)
        logits = self.head(hidden) if self.num_symbols else hidden[..., :0]
        return AudioOutput(hidden=hidden, lengths=self.out_lengths(valid), logits=logits)

    def _whisper(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, M) -> (B, T', D), window by window."""
        B, T, M = mel.shape
        window = 2 * self.config["max_source_positions"]
        count = -(-T // window)
        keep = frame_mask(lengths, T)[..., None]
        padded = F.pad(mel.masked_fill(~keep, -math.inf), (0, 0, 0, count * window - T), value=-math.inf)
        windows = padded.view(B * count, window, M)
        silence = (windows.amax(dim=(1, 2), keepdim=True) - BELOW_PEAK).clamp(min=SILENCE)
        windows = torch.where(windows == -math.inf, silence, windows)
        hidden: Tensor = self.encoder(windows.mT).last_hidden_state
        return hidden.reshape(B, -1, self.dim)[:, : self.out_lengths(T)]

    def _waveform(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, M) -> (B, T, D)."""
        keep = frame_mask(lengths, frames.shape[1])
        waveform, samples = self._joined(frames, keep, lengths)
        features = waveform[:, None]
        for number, layer in enumerate(self.encoder.feature_extractor.conv_layers):
            if number == 0 and isinstance(layer.layer_norm, nn.GroupNorm):
                features = layer.conv(features)
                counts = (samples - self.config["conv_kernel"][0]) // self.config["conv_stride"][0] + 1
                features = layer.activation(_group_norm(layer.layer_norm, features, counts))
            else:
                features = layer(features)
        projected = self.encoder.feature_projection(features.transpose(1, 2))
        # Of wav2vec 2.0 also what its quantizer reads.
        hidden = projected[0] if isinstance(projected, tuple) else projected
        encoded: Tensor = self.encoder.encoder(hidden, attention_mask=keep).last_hidden_state
        return encoded

    def _joined(self, frames: Tensor, keep: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Overlapping frames (B, T, M) -> the waveforms (B, N) that they were cut from, and their lengths (B)."""
        B, T, M = frames.shape
        hop = math.prod(self.config["conv_stride"])
        tail = M - hop
        waveform = frames.new_zeros(B, T * hop + tail)
        frames = frames.masked_fill(~keep[..., None], 0.0)
        waveform[:, : T * hop] = frames[..., :hop].reshape(B, -1)
        for start in range(0, tail, hop):  # what of a row's last frame reaches beyond its hop
            width = min(hop, tail - start)
            last = frames[
                torch.arange(B, device=frames.device), (lengths - 1).clamp(min=0), hop + start : hop + start + width
            ]
            index = (lengths * hop + start)[:, None] + torch.arange(width, device=frames.device)
            waveform.scatter_(1, index, last)
        return waveform, lengths * hop + tail


def _group_norm(norm: nn.GroupNorm, x: Tensor, counts: Tensor) -> Tensor:
    """A norm of each channel over the first `counts` (B) of its frames; x (B, C, T)."""
    keep = frame_mask(counts, x.shape[-1])[:, None]
    count = counts.clamp(min=1)[:, None, None].to(x.dtype)
    mean = (x * keep).sum(dim=-1, keepdim=True) / count
    variance = ((x - mean).square() * keep).sum(dim=-1, keepdim=True) / count
    return (x - mean) * (variance + norm.eps).rsqrt() * norm.weight[:, None] + norm.bias[:, None]


def field_of_view(config: Mapping[str, Any]) -> tuple[int, int]:
    """Samples that an encoder frame is computed from, and samples between two."""
    width, hop = 1, 1
    for kernel, stride in zip(config["conv_kernel"], config["conv_stride"], strict=True):
        width += (kernel - 1) * hop
        hop *= stride
    if width < hop:
        raise ValueError(f"conv_kernel and conv_stride leave samples out: a frame of {width}, every {hop}")
    return width, hop


def sizes_of(model_type: str, config: Mapping[str, Any]) -> tuple[int, int, int]:
    """n_mels, dim and downsample of a configuration. Raises ValueError for one that lacks them."""
    try:
        if model_type == "whisper":
            return config["num_mel_bins"], config["d_model"], 2
        return field_of_view(config)[0], config["hidden_size"], 1
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"config of {model_type} lacks, or has no number for, {error}") from error
