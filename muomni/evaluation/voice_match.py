"""Whether speech has the voice of its reference: its long-term spectrum is compared with those of all speakers' references.

No network judges: what a trained one hears in synthetic voices nobody knows. A long-term spectrum tells speakers apart roughly,
and how well it does on recordings of the very speakers is measured next to it.

Legend: N samples, T frames, M mel bins, C clips.
"""

import functools

import torch
from torch import Tensor

from muomni.frontends.audio_io import resample
from muomni.frontends.mel import LOG_STD, LogMel, MelSpec

SPECTRUM = MelSpec(
    sample_rate=16000, hop=160, n_fft=512, win=400, bins=40, f_min=60.0, f_max=7000.0, log=True, floor=1e-5
)
RANGE = 3.0  # nepers (26 dB) below the loudest frame: what counts as speech


@functools.cache
def _frontend() -> LogMel:
    return LogMel(SPECTRUM)


def voice_spectrum(waveform: Tensor, sample_rate: int) -> list[float]:
    """waveform (N) at a rate in Hz -> the mean log spectrum of its loud frames, less its own mean, so that the level does not
    count (M)."""
    mel = _frontend()(resample(waveform.float().cpu(), sample_rate, SPECTRUM.sample_rate)) * LOG_STD
    level = mel.mean(1)
    mean = mel[level >= level.max() - RANGE].mean(0)
    return (mean - mean.mean()).tolist()


def voice_match(made: list[list[float]], references: list[list[float]], speakers: list[int]) -> float | None:
    """Spectra (C, M) of speech and of its references, and their speakers (C) -> how often, in percent, a clip is nearer to its
    own reference than to that of another speaker, over all pairs of such clips; 50 is chance. None where there is one speaker."""
    distance = torch.cdist(torch.tensor(made), torch.tensor(references))
    of = torch.tensor(speakers)
    other = of[:, None] != of
    if not other.any():
        return None
    return 100 * float((distance.diagonal()[:, None] < distance)[other].float().mean())
