"""What every frame is told of the text where durations guide the Talker: which unit it speaks, how far into it, and whether it is
the last frame.

The units of a text are the silence before it, its characters, and the silence after it; each lasts so many frames, a fraction
too, since a character is often shorter than a frame of 80 ms. A frame asks at two instants which unit is spoken then. So speech
follows its text by construction, each unit in turn and once, and ends where the last unit ends (length regulation: Ren et al.
2019, arXiv:1905.09263; durations that need not be whole frames: Shen et al. 2020, arXiv:2010.04301).

Legend: B batch, C characters, U = C + 2 units, T frames, P instants of a frame, D width.
"""

import math

import torch
from torch import Tensor, nn

INSTANTS = 2  # of a frame, evenly spread: a recognizer's frames are half as long, so that no unit falls between two
LONGEST = 250.0  # frames of a unit: what was learned badly cannot ask for hours


def with_silences(text: Tensor, lengths: Tensor, *, first: int) -> tuple[Tensor, Tensor]:
    """Characters (B, C), right-padded by 0, of which `lengths` (B) are real -> units (B, C + 2), with `first` before each text
    and `first + 1` after it, and their numbers (B)."""
    units = torch.nn.functional.pad(text, (1, 1))
    units[:, 0] = first
    return units.scatter(1, lengths[:, None] + 1, first + 1), lengths + 2


def log_durations(x: Tensor) -> Tensor:
    """What a head predicts -> frames, more than 0."""
    return x.float().clamp(max=math.log(LONGEST)).exp()


class AlignedText(nn.Module):
    """Units and where they end -> what is added to the input of each frame.

    Args:
        dim: D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.progress = nn.Linear(2, dim)
        self.mix = nn.Linear(INSTANTS * dim, dim)

    def initialise(self) -> None:
        """What is added has the scale of the units, which are normalised."""
        nn.init.normal_(self.progress.weight, std=0.5)
        nn.init.normal_(self.mix.weight, std=self.mix.in_features**-0.5)

    def forward(self, units: Tensor, ends: Tensor, lengths: Tensor, *, count: int) -> Tensor:
        """units (B, U, D), of which the first `lengths` (B) are real, and their ends (B, U), in frames, not falling ->
        (B, count, D + 1): what is added to each frame, and 1 for the last frame of the last unit and those after it, else -1."""
        instants = (torch.arange(count * INSTANTS, device=ends.device) + 0.5) / INSTANTS  # TP
        index = (ends[:, None] <= instants[:, None]).sum(-1)  # counted, not searched: ONNX has no sorted search
        index = index.minimum((lengths - 1)[:, None])  # B TP
        starts = torch.cat([torch.zeros_like(ends[:, :1]), ends[:, :-1]], dim=1)
        start, durations = starts.gather(1, index), (ends - starts).gather(1, index)
        share = ((instants - start) / durations.clamp_min(1e-3)).clamp(0, 1)
        progress = self.progress(torch.stack([share, durations.clamp_min(0).log1p()], dim=-1))
        spoken = units.gather(1, index[..., None].expand(-1, -1, units.shape[2])) + progress
        told = self.mix(spoken.unflatten(1, (count, INSTANTS)).flatten(2))
        total = ends.gather(1, (lengths - 1)[:, None]).round().clamp_min(1)  # B 1
        last = torch.arange(1, count + 1, device=ends.device) >= total
        return torch.cat([told, last.to(told.dtype)[..., None] * 2 - 1], dim=-1)
