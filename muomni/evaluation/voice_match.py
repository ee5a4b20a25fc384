"""Whether speech has the voice of its reference: its long-term spectrum is compared with those of all speakers' references.

No network judges: what a trained one hears in synthetic voices nobody knows. A long-term spectrum tells speakers apart roughly,
and how well it does on recordings of the very speakers is measured next to it.

Legend: N samples, T frames, M mel bins, C clips.
"""

import torch
from torch import Tensor

from muomni.frontends.mel import LOG_STD, LogMel, MelSpec

BINS = 40
RANGE = 3.0  # nepers (26 dB) below the loudest frame: what counts as speech


def spectrum_frontend(sample_rate: int) -> LogMel:
    """What `voice_spectrum` takes, for waveforms at a rate in Hz."""
    win = sample_rate // 40
    return LogMel(
        MelSpec(
            sample_rate=sample_rate, hop=sample_rate // 100, n_fft=1 << win.bit_length(), win=win, bins=BINS, f_min=60.0,
            f_max=min(7000.0, sample_rate / 2), log=True, floor=1e-5,
        )
    )  # fmt: skip


def voice_spectrum(waveform: Tensor, frontend: LogMel) -> list[float]:
    """waveform (N) -> the mean log spectrum of its loud frames, less its own mean, so that the level does not count (M)."""
    mel = frontend(waveform.float().cpu()) * LOG_STD
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
