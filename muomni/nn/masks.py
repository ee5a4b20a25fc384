"""Which tokens attend to which: a type for each way of saying it, and what the attention kernel makes of it.

`PaddingMask` for rows of unlike lengths, `SegmentMask` for samples packed into one row, `ChunkMask` (chunked.py) for encoders of
streams, `DenseMask` for anything else. A batch
brings its mask from the collator, a cache has its own; `Attention.prepare` turns it into the kernel's argument once a forward.

Legend: B batch, T new tokens, S all tokens (cached and new).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from muomni.nn.chunked import ChunkMask
from muomni.nn.packed import Runs, runs_of


@dataclass(frozen=True, slots=True)
class PaddingMask:
    """keep (B, S) bool: True for real tokens. Padding attends to padding, since a softmax over nothing is NaN."""

    keep: Tensor

    def dense(self, count: int, *, causal: bool, window: int | None) -> Tensor:
        """(B, 1, T, S) bool, or without `causal` (B, 1, 1, S): what the last `count` = T tokens attend to."""
        if not causal:
            return self.keep[:, None, None]
        total = self.keep.shape[1]
        same = self.keep[:, None, total - count :, None] == self.keep[:, None, None]
        if count == 1 and (window is None or window >= total):
            return same
        return causal_mask(count, total, window=window, device=same.device)[None, None] & same

    def attends_back(self, distance: int) -> Tensor:
        """(B, S - distance) bool: whether a token, from the `distance`-th on, attends to the one so far before it."""
        return self.keep[:, distance:] == self.keep[:, :-distance]


@dataclass(frozen=True, slots=True)
class SegmentMask:
    """Causal attention within the samples of packed rows.

    segment_ids: (B, T) long, 1, 2, ... in each row, 0 for padding. branch_ids: (B, T) long where samples share a beginning, as
    questions about one image: a token attends to its own branch and to branch 0; None: none do. positions: (B, T) long, with
    branches: of each token as if its branch stood alone. runs: for the variable-length kernel, None: not known.
    """

    segment_ids: Tensor
    branch_ids: Tensor | None = None
    positions: Tensor | None = None
    runs: Runs | None = None

    @classmethod
    def with_runs(
        cls, segment_ids: Tensor, branch_ids: Tensor | None = None, positions: Tensor | None = None
    ) -> "SegmentMask":
        """A mask on the CPU, whose runs are found."""
        return cls(segment_ids, branch_ids, positions, runs_of(segment_ids, branch_ids))

    def dense(self, count: int, *, causal: bool, window: int | None) -> Tensor:
        """(B, 1, T, T) bool. A window counts positions: other branches may stand between two tokens of one."""
        assert causal, "packed rows are for causal attention"
        device = self.segment_ids.device
        if self.branch_ids is None:
            same = self.segment_ids[:, None, :, None] == self.segment_ids[:, None, None]
            return causal_mask(count, count, window=window, device=device)[None, None] & same
        visible = packed_attention_mask(self.segment_ids, self.branch_ids)
        if window is not None:
            assert self.positions is not None, "a window over branches needs positions"
            visible = visible & (self.positions[:, :, None] - self.positions[:, None] < window)
        return causal_mask(count, count, window=None, device=device)[None, None] & visible[:, None]

    def attends_back(self, distance: int) -> Tensor:
        """(B, T - distance) bool: see `PaddingMask`."""
        now, then = slice(distance, None), slice(None, -distance)
        same = self.segment_ids[:, now] == self.segment_ids[:, then]
        if self.branch_ids is not None:
            same = same & ((self.branch_ids[:, now] == self.branch_ids[:, then]) | (self.branch_ids[:, then] == 0))
        return same

    def positions_in_segment(self) -> Tensor:
        """(B, T) long: how many tokens of its segment are before each."""
        index = torch.arange(self.segment_ids.shape[1], device=self.segment_ids.device)
        begins = F.pad(self.segment_ids[:, 1:] != self.segment_ids[:, :-1], (1, 0), value=True)
        return index - (index * begins).cummax(dim=1).values

    def map(self, change: Callable[[Tensor], Tensor]) -> "SegmentMask":
        """The mask with every tensor changed: moved to a device, pinned."""

        def each(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else change(tensor)

        runs = self.runs and Runs(change(self.runs.queries), change(self.runs.keys), each(self.runs.gather))
        return SegmentMask(change(self.segment_ids), each(self.branch_ids), each(self.positions), runs)


@dataclass(frozen=True, slots=True)
class DenseMask:
    """visible (B, T, S) bool: True where a token attends to another; the order of tokens and windows included."""

    visible: Tensor

    def dense(self, count: int, *, causal: bool, window: int | None) -> Tensor:
        """(B, 1, T, S) bool."""
        return self.visible[:, None]

    def attends_back(self, distance: int) -> Tensor:
        """(B, T - distance) bool, for T = S: see `PaddingMask`."""
        return self.visible.diagonal(-distance, dim1=1, dim2=2)


Mask = PaddingMask | SegmentMask | DenseMask | ChunkMask


def causal_mask(length: int, total: int, *, window: int | None, device: torch.device) -> Tensor:
    """(length, total) bool, True where the i-th of the last `length` of `total` tokens attends (window: to itself and
    the `window - 1` before it)."""
    query = torch.arange(total - length, total, device=device)[:, None]
    key = torch.arange(total, device=device)[None]
    visible = key <= query
    return visible if window is None else visible & (key > query - window)


def packed_attention_mask(segment_ids: Tensor, branch_ids: Tensor) -> Tensor:
    """Boolean attention mask (B, T, T) for packed rows, without the order of tokens: same segment, and same branch or the
    shared prefix, which is branch 0."""
    same = segment_ids[:, :, None] == segment_ids[:, None]
    return same & ((branch_ids[:, :, None] == branch_ids[:, None]) | (branch_ids[:, None] == 0))
