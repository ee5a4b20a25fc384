"""Peak level of waveforms.

Shapes: B clips, N samples.
"""

import torch
from torch import Tensor

PEAK = 0.95  # of the written waveform
SMALLEST = 1e-8


def peak_normalise(waveform: Tensor) -> Tensor:
    """(B, N) -> each clip's largest sample becomes 0.95; silence stays silence."""
    peak = waveform.abs().amax(dim=1, keepdim=True)
    return torch.where(peak > SMALLEST, waveform * (PEAK / peak.clamp_min(SMALLEST)), waveform)
