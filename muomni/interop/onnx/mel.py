"""`LogMel` (frontends/mel.py) as a graph: the Fourier transform as one convolution with windowed sines and cosines, which every
runtime has and computes fast. Only the window's samples enter, not the zeros around it.

Legend: B batch, N samples, T frames, F frequencies, M mel bins, W samples of the window.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.frontends.mel import MelSpec, mel_filters, normalise_log


class Magnitudes(nn.Module):
    """Waveform (B, N), N at least one hop -> mel magnitudes (B, T, M), T = floor(N / hop)."""

    basis: Tensor
    filters: Tensor

    def __init__(self, spec: MelSpec) -> None:
        super().__init__()
        self.spec = spec
        window = torch.hann_window(spec.win, dtype=torch.float64)
        self.register_buffer("basis", fourier_basis(window, n_fft=spec.n_fft).float()[:, None])
        self.register_buffer("filters", mel_filters(spec) * (2.0 / float(window.sum())))
        before = (
            spec.n_fft // 2 - (spec.n_fft - spec.win) // 2
        )  # samples of the first window before the first of the clip
        self.padding = (before, spec.win - before - spec.hop)  # so that there are floor(N / hop) windows

    def forward(self, waveform: Tensor) -> Tensor:
        padded = F.pad(waveform, self.padding)[:, None]
        real, imaginary = F.conv1d(padded, self.basis, stride=self.spec.hop).chunk(2, dim=1)
        return (real.square() + imaginary.square()).sqrt().transpose(1, 2) @ self.filters


class MelGraph(nn.Module):
    """Waveform (B, N) -> mel (B, T, M) as `LogMel` computes it."""

    def __init__(self, spec: MelSpec) -> None:
        super().__init__()
        self.spec, self.magnitudes = spec, Magnitudes(spec)

    def forward(self, waveform: Tensor) -> tuple[Tensor]:
        mel = self.magnitudes(waveform)
        return (normalise_log(mel, self.spec.floor) if self.spec.log else mel,)


def fourier_basis(window: Tensor, *, n_fft: int) -> Tensor:
    """Window (W) -> (2 F, W): times the real, then the imaginary part of each frequency of a transform of n_fft."""
    samples = torch.arange(len(window), dtype=window.dtype)
    angle = 2 * math.pi / n_fft * torch.outer(torch.arange(n_fft // 2 + 1, dtype=window.dtype), samples)
    return torch.cat([angle.cos(), -angle.sin()]) * window
