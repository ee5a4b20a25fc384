"""Overlapped frames -> their sum.

Legend: B batch, T frames, L samples of a frame.
"""

from torch import Tensor


def overlap_add(frames: Tensor, *, hop: int) -> Tensor:
    """frames (B, T, L), each `hop` samples after the one before -> their sum (B, (T - 1) x hop + L)."""
    B, T, L = frames.shape
    shifts = -(-L // hop)
    rows = frames.new_zeros(B, T + shifts - 1, hop)
    for shift in range(shifts):  # far faster than F.fold
        piece = frames[..., shift * hop : (shift + 1) * hop]
        rows[:, shift : shift + T, : piece.shape[2]] += piece
    return rows.flatten(1)[:, : (T - 1) * hop + L]
