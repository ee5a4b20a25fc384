"""Mel -> waveform without training: pseudo-inverse of the mel filters, then Griffin-Lim with momentum.

Griffin and Lim 1984; the accelerated form of Perraudin, Balazs and Sondergaard 2013. The phase starts from a fixed
seed: the same mel gives the same waveform.

Shapes: B clips, T frames, M mel bins, F frequencies, N = T x hop samples.
"""

import torch
from torch import Tensor

from muomni.frontends.mel import MelSpec, denormalise_log, mel_filters

MOMENTUM = 0.99
PEAK = 0.95  # of the written waveform
SMALLEST = 1e-8
SHARPENING_STEPS = 8  # multiplicative updates that fit the magnitudes to the mel, all of them staying above zero


class GriffinLim:
    """Callable: mel (T, M) or (B, T, M), as `LogMel` of the same spec makes it -> waveform (N,) or (B, N)."""

    def __init__(self, spec: MelSpec, *, iterations: int) -> None:
        if iterations < 1:
            raise ValueError(f"griffin_lim: iterations must be at least 1, not {iterations}")
        self.spec = spec
        self.iterations = iterations
        self.window = torch.hann_window(spec.win)
        self.scale = float(self.window.sum()) / 2.0
        self.filters = mel_filters(spec)  # F M
        self.inverse = torch.linalg.pinv(self.filters, rtol=1e-5)  # M F

    def __call__(self, mel: Tensor) -> Tensor:
        """Peak-normalised to 0.95; silence stays silence. Raises ValueError for a mel that is empty or not finite."""
        if mel.dim() not in (2, 3) or mel.shape[-1] != self.spec.bins or mel.shape[-2] == 0:
            raise ValueError(f"griffin_lim: a mel (T, {self.spec.bins}) with T > 0 is needed, not {tuple(mel.shape)}")
        if not bool(torch.isfinite(mel).all()):
            raise ValueError("griffin_lim: the mel holds NaN or Inf; it cannot be made audible")
        batch = mel.detach().float()
        batch = batch if mel.dim() == 3 else batch[None]
        waveform = self._phase_search(self.magnitudes(batch), batch.shape[1] * self.spec.hop)
        peak = waveform.abs().amax(dim=1, keepdim=True)
        waveform = torch.where(peak > SMALLEST, waveform * (PEAK / peak.clamp_min(SMALLEST)), waveform)
        return waveform if mel.dim() == 3 else waveform[0]

    def magnitudes(self, mel: Tensor) -> Tensor:
        """Mel (B, T, M) -> STFT magnitudes (B, F, T + 1); the last frame, which `LogMel` drops, is repeated."""
        target = (denormalise_log(mel) if self.spec.log else mel.clamp_min(0.0)) * self.scale
        filters, inverse = self.filters.to(mel.device), self.inverse.to(mel.device)
        magnitude = (target @ inverse).clamp_min(SMALLEST)  # B T F
        overlap = filters.sum(dim=1)  # F
        for _ in range(SHARPENING_STEPS):
            ratio = target / (magnitude @ filters).clamp_min(SMALLEST)
            magnitude = torch.where(
                overlap > 0, magnitude * (ratio @ filters.T) / overlap.clamp_min(SMALLEST), magnitude
            )
        magnitude = magnitude.transpose(1, 2)
        return torch.cat([magnitude, magnitude[..., -1:]], dim=2)

    def _phase_search(self, magnitude: Tensor, length: int) -> Tensor:
        spec, window = self.spec, self.window.to(magnitude.device)
        generator = torch.Generator().manual_seed(0)
        phase = 2 * torch.pi * torch.rand(magnitude.shape[1:], generator=generator)  # the same for every row
        angles = torch.polar(torch.ones_like(phase), phase).to(magnitude.device).expand(magnitude.shape)
        factor = MOMENTUM / (1 + MOMENTUM)
        previous = torch.zeros_like(angles)
        for _ in range(self.iterations):
            waveform = torch.istft(magnitude * angles, spec.n_fft, spec.hop, spec.win, window, length=length)
            rebuilt = torch.stft(
                waveform, spec.n_fft, spec.hop, spec.win, window, pad_mode="constant", return_complex=True
            )
            angles = rebuilt - factor * previous
            angles = angles / angles.abs().clamp_min(SMALLEST)
            previous = rebuilt
        return torch.istft(magnitude * angles, spec.n_fft, spec.hop, spec.win, window, length=length)
