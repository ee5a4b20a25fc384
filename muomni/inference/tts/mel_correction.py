"""Iterative correction of a waveform towards a target mel, with consistent phases.

Griffin-Lim (griffin_lim.py) starts from random phases and keeps magnitudes estimated from the mel. Here both come from the
waveform: each iteration multiplies every frequency by the geometric mean of target over current mel of the filters that cover
it, and resynthesises the waveform. The momentum is that of Perraudin, Balazs and Sondergaard 2013.

Shapes: B clips, N = T x hop samples, T frames, M mel bins, F = n_fft // 2 + 1 frequencies, L = n_fft.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from muomni.frontends.mel import MelSpec, denormalise_log, mel_filters
from muomni.nn.constants import Constants
from muomni.nn.overlap_add import overlap_add

MOMENTUM = 0.99
MAX_GAIN = 4.0  # of one iteration, in nats


class MelCorrection:
    """Callable: waveform (B, N), mel (B, T, M) of a `LogMel` of the spec -> waveform (B, N). Differentiable."""

    def __init__(self, spec: MelSpec) -> None:
        self.spec = spec
        window = torch.hann_window(spec.win)
        self.scale = 2.0 / float(window.sum())
        left = (spec.n_fft - spec.win) // 2
        self.window = F.pad(window, (left, spec.n_fft - spec.win - left))  # L
        self.filters = mel_filters(spec)  # F M
        overlap = self.filters.sum(dim=1, keepdim=True)
        self.shares = torch.where(overlap > 0, self.filters / overlap.clamp_min(1e-8), 0.0)  # F M
        self._constants = Constants(self.window, self.filters, self.shares)

    def __call__(self, waveform: Tensor, mel: Tensor, *, iterations: int, past: Tensor | None = None) -> Tensor:
        """0 iterations are a no-op. Magnitudes below the spec's floor are left alone.

        past: the first samples (n), already final; they are kept fixed.
        """
        spec, hop, half = self.spec, self.spec.hop, self.spec.n_fft // 2
        window, filters, shares = self._constants.on(waveform.device)
        magnitude = denormalise_log(mel.float()) if spec.log else mel.float()
        target = magnitude.clamp_min(spec.floor).log()
        target = torch.cat([target, target[:, -1:]], dim=1)  # B T+1 M: with the frame that `LogMel` drops
        N = waveform.shape[1]
        inside = slice(half, half + N)
        overlap = overlap_add(window.square().expand(1, target.shape[1], -1), hop=hop)[:, inside].clamp_min(1e-6)
        previous: Tensor | None = None
        for _ in range(iterations):
            frames = F.pad(waveform, (half, half)).unfold(1, spec.n_fft, hop) * window  # B T+1 L
            spectrum = torch.fft.rfft(frames)
            ahead = spectrum if previous is None else spectrum + MOMENTUM * (spectrum - previous)
            previous = spectrum
            current = ((ahead.abs() @ filters) * self.scale).clamp_min(spec.floor).log()
            gain = ((target - current).clamp(-MAX_GAIN, MAX_GAIN) @ shares.T).exp()
            frames = torch.fft.irfft(ahead * gain, n=spec.n_fft) * window
            waveform = overlap_add(frames, hop=hop)[:, inside] / overlap
            if past is not None:
                waveform = torch.cat([past.expand(len(waveform), -1), waveform[:, len(past) :]], dim=1)
        return waveform
