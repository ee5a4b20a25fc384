"""A text as the Talker has read it, and what of it is at each frame.

Legend: B batch, C characters, U units, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def upsample_text(prefix: Tensor, char_times: Tensor, lengths: Tensor, *, count: int) -> Tensor:
    """prefix (B, C, D) at char_times (B, C), rising, of which the first `lengths` are real -> (B, count, D): the prefix
    interpolated linearly at the middle of each frame, constant after the last character."""
    frames = (torch.arange(count, device=prefix.device) + 0.5).expand(len(prefix), -1).contiguous()
    last = (lengths - 1)[:, None]
    high = torch.searchsorted(char_times.contiguous(), frames).clamp_max(last)
    low = (high - 1).clamp_min(0)
    start, end = char_times.gather(1, low), char_times.gather(1, high)
    share = ((frames - start) / (end - start).clamp_min(1e-6)).clamp(0, 1)[..., None]
    rows = torch.arange(len(prefix), device=prefix.device)[:, None]
    return prefix[rows, low] * (1 - share) + prefix[rows, high] * share


@dataclass(slots=True)
class TextRead:
    """prefix (B, C, D): what attention reads, with durations nothing (B, 0, D); units (B, U, D) and what belongs to each: times
    (B, U) and durations (B, U) in frames, keep (B, U) bool; lengths (B). U: characters, with durations also two silences."""

    prefix: Tensor
    units: Tensor
    times: Tensor
    lengths: Tensor
    keep: Tensor
    durations: Tensor
