"""Views: what one looks at while a stage trains, of a few rows of a held-out batch. Images are made here, loggers show them.

Legend: H height, W width, T frames, S symbols.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: Rows of a batch that are shown.
ROWS = 3
#: Corners of the colour map of `heat_map`, dark to bright: magma's.
MAP = ((0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191))


@dataclass(frozen=True, slots=True)
class View:
    """name: of the panel. caption: one line. image: (3, H, W) uint8; waveform: (N) at sample_rate in Hz; neither: text alone."""

    name: str
    caption: str
    image: Tensor | None = None
    waveform: Tensor | None = None
    sample_rate: int = 16000


def heat_map(values: Tensor, *, scale: int = 1) -> Tensor:
    """(H, W) -> (3, scale * H, scale * W) uint8, dark for the least; the first row is at the bottom, as of a spectrogram."""
    values = values.detach().float().cpu().flip(0)
    low, high = values.amin(), values.amax()
    position = (values - low) / (high - low).clamp_min(1e-8) * (len(MAP) - 1)
    left = position.floor().long().clamp_max(len(MAP) - 2)
    share = (position - left)[..., None]
    colours = torch.tensor(MAP, dtype=torch.float32)
    image = (colours[left] * (1 - share) + colours[left + 1] * share).round().to(torch.uint8).permute(2, 0, 1)
    return image.repeat_interleave(scale, 1).repeat_interleave(scale, 2)


def pixels(image: Tensor) -> Tensor:
    """A normalised image (3, H, W) -> uint8, stretched over its own range."""
    image = image.detach().float().cpu()
    low, high = image.amin(), image.amax()
    return ((image - low) / (high - low).clamp_min(1e-8) * 255).round().to(torch.uint8)


def mark_errors(answer: str, truth: str) -> str:
    """The answer with what differs from the truth in brackets: `th[e|a] cat[s|]` has an e for an a, and an s too many."""
    marked = []
    for change, a, b, c, d in difflib.SequenceMatcher(None, answer, truth, autojunk=False).get_opcodes():
        marked.append(answer[a:b] if change == "equal" else f"[{answer[a:b]}|{truth[c:d]}]")
    return "".join(marked)


def ranks(similarity: Tensor, rows: Sequence[int]) -> list[int]:
    """similarity (A, C), pairs on the diagonal -> the position of each row's own caption among all, from 1."""
    own = similarity.diagonal()[:, None]
    position = (similarity > own).sum(dim=1) + 1
    return [int(position[row]) for row in rows]
