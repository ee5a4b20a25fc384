"""Brings a waveform's mel nearer to a wanted one, and its phases into agreement.

Griffin-Lim (griffin_lim.py) begins with random phases and keeps magnitudes that it had to guess from the mel. Here both are
the waveform's own: in each iteration every frequency is multiplied by the geometric mean of wanted over present mel of the
filters that it lies in, and the waveform is made anew. The momentum is that of Perraudin, Balazs and Sondergaard 2013.

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
    """Callable: waveform (B, N), mel (B, T, M) as `LogMel` of the spec makes it -> waveform (B, N). Differentiable."""

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
        """0 iterations give the waveform back. What lies under the spec's floor is silent enough, and left alone.

        past: the first samples (n) as they were made already; they stay as they are, and the others fit behind them.
        """
        spec, hop, half = self.spec, self.spec.hop, self.spec.n_fft // 2
        window, filters, shares = self._constants.on(waveform.device)
        magnitude = denormalise_log(mel.float()) if spec.log else mel.float()
        wanted = magnitude.clamp_min(spec.floor).log()
        wanted = torch.cat([wanted, wanted[:, -1:]], dim=1)  # B T+1 M: and the frame that `LogMel` drops
        N = waveform.shape[1]
        inside = slice(half, half + N)
        overlap = overlap_add(window.square().expand(1, wanted.shape[1], -1), hop=hop)[:, inside].clamp_min(1e-6)
        previous: Tensor | None = None
        for _ in range(iterations):
            frames = F.pad(waveform, (half, half)).unfold(1, spec.n_fft, hop) * window  # B T+1 L
            spectrum = torch.fft.rfft(frames)
            ahead = spectrum if previous is None else spectrum + MOMENTUM * (spectrum - previous)
            previous = spectrum
            present = ((ahead.abs() @ filters) * self.scale).clamp_min(spec.floor).log()
            gain = ((wanted - present).clamp(-MAX_GAIN, MAX_GAIN) @ shares.T).exp()
            frames = torch.fft.irfft(ahead * gain, n=spec.n_fft) * window
            waveform = overlap_add(frames, hop=hop)[:, inside] / overlap
            if past is not None:
                waveform = torch.cat([past.expand(len(waveform), -1), waveform[:, len(past) :]], dim=1)
        return waveform
