"""Similarity of generated audio to the reference.

Legend: N samples.
"""

import torch
from torch import Tensor
from torchmetrics.functional.audio.stoi import short_time_objective_intelligibility
from torchmetrics.utilities.imports import _PYSTOI_AVAILABLE

UNDEFINED = 1e-5  # what pystoi gives for a clip with less than 0.4 s of speech


def need_stoi() -> None:
    """Raise ValueError where the package that STOI needs is not installed."""
    if not _PYSTOI_AVAILABLE:
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
