"""Several samples in one row, so that a batch of unlike lengths wastes little on padding and each step sees all kinds.

Legend: B rows, T tokens of a row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from muomni.special_tokens import IGNORE, PAD


def fill_rows(lengths: Sequence[int], *, width: int) -> list[list[int]]:
    """Indices of the samples in each row, at most `width` tokens a row (a longer sample has a row of its own).

    The longest first, each into the first row that has room (first-fit decreasing, within 22 % of the fewest rows).
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        row = next((row for row, left in enumerate(room) if left >= lengths[index]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(max(width, lengths[index]))
        rows[row].append(index)
        room[row] -= lengths[index]
    return rows


def pack(sequences: Sequence[tuple[Tensor, Tensor]], rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """(ids, targets) of each sample, (T_i) -> ids, targets and segments (B, T), all long.

    segments: 1, 2, ... for the samples of a row, 0 for padding: what `keep` of the Thinker takes, so that a token sees
    its own sample alone.
    """
    width = max(sum(len(sequences[index][0]) for index in row) for row in rows)
    ids = torch.full((len(rows), width), PAD)
    targets = torch.full((len(rows), width), IGNORE)
    segments = torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        start = 0
        for number, index in enumerate(row, start=1):
            end = start + len(sequences[index][0])
            ids[place, start:end], targets[place, start:end] = sequences[index]
            segments[place, start:end] = number
            start = end
    return ids, targets, segments
