"""Discriminators of real and generated audio, for the training of the vocoder; never exported.

Two views: the waveform folded by several periods (Kong et al. 2020, HiFi-GAN, arXiv:2010.05646), for pitch, and
complex spectrograms of several resolutions (Jang et al. 2021, UnivNet, arXiv:2106.07889; complex as in Encodec), for
timbre and noise. Both have strides in early layers, so that they do not dominate the time of a step.

Legend: B clips, N samples, P period, C channels, T frames, F frequencies.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from muomni.models.outputs import DiscriminatorOutput

SLOPE = 0.1  # of leaky ReLU


class _Convolutions(nn.Module):
    """Convolutions, each followed by a leaky ReLU; the last returns the scores."""

    def __init__(self, layers: Sequence[nn.Module], last: nn.Module) -> None:
        super().__init__()
        self.layers, self.last = nn.ModuleList(layers), last

    def forward(self, x: Tensor) -> DiscriminatorOutput:
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        return DiscriminatorOutput(scores=self.last(x), features=features)


class PeriodDiscriminator(nn.Module):
    """On every P-th sample: P sequences, by the same convolutions.

    Args:
        period: P. channels: of the layers, each of which keeps every third sample.
    """

    def __init__(self, *, period: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.period = period
        sizes = zip([1, *channels], channels, strict=False)
        layers = [weight_norm(nn.Conv1d(a, b, 5, stride=3, padding=2)) for a, b in sizes]
        self.convolutions = _Convolutions(layers, weight_norm(nn.Conv1d(channels[-1], 1, 3, padding=1)))

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        """waveform (B, N)."""
        padded = F.pad(waveform, (0, -waveform.shape[1] % self.period))
        return self.convolutions(rearrange(padded, "b (t p) -> (b p) 1 t", p=self.period))


class SpectrogramDiscriminator(nn.Module):
    """On a complex spectrogram.

    Args:
        n_fft: of the transform, whose hop is half of it. channels: of the layers, each of which keeps every second frequency.
    """

    window: Tensor

    def __init__(self, *, n_fft: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        sizes = zip([2, *channels], channels, strict=False)
        layers = [weight_norm(nn.Conv2d(a, b, (3, 5), stride=(1, 2), padding=(1, 2))) for a, b in sizes]
        self.convolutions = _Convolutions(layers, weight_norm(nn.Conv2d(channels[-1], 1, 3, padding=1)))

    def forward(self, waveform: Tensor) -> DiscriminatorOutput:
        """waveform (B, N)."""
        spectrum = torch.stft(
            waveform, self.n_fft, self.n_fft // 2, window=self.window, normalized=True, return_complex=True
        )  # B F T
        return self.convolutions(rearrange(torch.view_as_real(spectrum), "b f t c -> b c t f"))


class Discriminators(nn.Module):
    """All of them.

    Args:
        periods: one discriminator each. n_ffts: one discriminator each.
        period_channels, spectrogram_channels: of their layers.
    """

    def __init__(
        self,
        *,
        periods: Sequence[int],
        n_ffts: Sequence[int],
        period_channels: Sequence[int],
        spectrogram_channels: Sequence[int],
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            [PeriodDiscriminator(period=period, channels=period_channels) for period in periods]
            + [SpectrogramDiscriminator(n_fft=n_fft, channels=spectrogram_channels) for n_fft in n_ffts]
        )

    def forward(self, waveform: Tensor) -> list[DiscriminatorOutput]:
        """waveform (B, N) -> the output of each."""
        return [member(waveform) for member in self.members]
