"""Similarity of generated audio to the reference.

Legend: N samples.
"""

import torch
import torchaudio
from torch import Tensor
from torchmetrics.functional.audio.stoi import short_time_objective_intelligibility
from torchmetrics.utilities.imports import _PESQ_AVAILABLE, _PYSTOI_AVAILABLE

PESQ_RATE = 16_000  # of its wide band, in Hz
UNDEFINED = 1e-5  # what pystoi gives for a clip with less than 0.4 s of speech


def has_stoi() -> bool:
    """Whether the package that STOI needs is installed."""
    return bool(_PYSTOI_AVAILABLE)


def need_stoi() -> None:
    """Raise ValueError where the package that STOI needs is not installed."""
    if not has_stoi():
        raise ValueError("STOI is measured by pystoi, which is not installed: pip install 'muomni[vocoder]'")


def match_level(made: Tensor, recorded: Tensor) -> Tensor:
    """made (N) scaled to the energy of recorded (N); silence stays silence."""
    energy = made.square().mean()
    return made * (recorded.square().mean() / energy.clamp_min(1e-12)).sqrt()


def stoi(made: Tensor, recorded: Tensor, *, sample_rate: int) -> float | None:
    """Short-time objective intelligibility (Taal et al. 2011), about 0 to 1, higher is better; None where the clip holds too
    little speech for it. made, recorded (N)."""
    value = float(short_time_objective_intelligibility(made.cpu().double(), recorded.cpu().double(), sample_rate))
    return None if abs(value - UNDEFINED) < 1e-9 or not torch.isfinite(torch.tensor(value)) else value


def has_pesq() -> bool:
    """Whether the package of PESQ is installed, which is compiled where it is installed: not every machine can."""
    return bool(_PESQ_AVAILABLE)


def pesq(made: Tensor, recorded: Tensor, *, sample_rate: int) -> float | None:
    """Perceptual evaluation of speech quality, wide band (ITU-T P.862.2), about 1 to 4.6, higher is better; None where it finds
    no speech. made, recorded (N). `has_pesq` says whether it can be called."""
    from pesq import NoUtterancesError, PesqError
    from pesq import pesq as measure

    resample = torchaudio.functional.resample
    pair = [resample(each.cpu().float(), sample_rate, PESQ_RATE).numpy() for each in (recorded, made)]
    try:
        return float(measure(PESQ_RATE, *pair, "wb"))
    except (NoUtterancesError, PesqError):  # silence, or less than a quarter of a second
        return None
