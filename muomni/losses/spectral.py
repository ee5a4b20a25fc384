"""Distance of spectra at several resolutions (Yamamoto et al. 2020, arXiv:1910.11480).

Legend: B clips, N samples, T frames, F frequencies.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from muomni.distributed import collectives

FLOOR = 1e-4  # of a magnitude before the log: -80 dB of a full-scale sine


def magnitudes(waveform: Tensor, *, n_fft: int) -> Tensor:
    """waveform (B, N) -> (B, F, T) at hop n_fft / 4; a full-scale sine reads 1."""
    window = torch.hann_window(n_fft, device=waveform.device)
    spectrum = torch.stft(waveform, n_fft, n_fft // 4, window=window, return_complex=True) * (2.0 / n_fft * 2.0)
    return (spectrum.real.square() + spectrum.imag.square()).clamp_min(FLOOR**2).sqrt()


def spectral_loss(fake: Tensor, real: Tensor, *, n_ffts: Sequence[int]) -> Tensor:
    """Mean over resolutions of the mean absolute difference of log magnitudes, in nats, and of the spectral convergence
    |S - S'| / |S'| (Arik et al. 2018, arXiv:1808.06719). fake, real (B, N)."""
    losses = []
    for n_fft in n_ffts:
        got, wanted = magnitudes(fake, n_fft=n_fft), magnitudes(real, n_fft=n_fft)
        losses.append((got.log() - wanted.log()).abs().mean())
        losses.append(_norm(got - wanted) / _norm(wanted))
    return torch.stack(losses).sum() / len(n_ffts)


def _norm(x: Tensor) -> Tensor:
    """Of all ranks' shares of the batch: it is no mean of theirs."""
    return torch.linalg.vector_norm(collectives.all_gather_cat(torch.linalg.vector_norm(x)[None]))
