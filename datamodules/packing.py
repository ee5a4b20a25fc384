"""Several samples in one row, so that a batch of unlike lengths wastes little on padding and each step has all tasks.

Legend: B rows, T tokens of a row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from muomni.special_tokens import IGNORE, PAD


def bin_pack(lengths: Sequence[int], *, width: int) -> list[list[int]]:
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

    segments: 1, 2, ... for the samples of a row, 0 for padding: the `segment_ids` of a `SegmentMask`.
    """
    numbers = {index: number for row in rows for number, index in enumerate(row, start=1)}
    ids = pad_packed([ids for ids, _ in sequences], rows, fill=PAD)
    targets = pad_packed([targets for _, targets in sequences], rows, fill=IGNORE)
    segments = [torch.full_like(ids, numbers[index]) for index, (ids, _) in enumerate(sequences)]
    return ids, targets, pad_packed(segments, rows, fill=0)


def pad_packed(values: Sequence[Tensor], rows: Sequence[Sequence[int]], *, fill: int) -> Tensor:
    """values, (T_i) each -> (B, T) in the layout of `pack`, `fill` after them."""
    return pad_sequence([torch.cat([values[index] for index in row]) for row in rows], True, fill)
