"""Keys, values and text of the utterances that a Talker speaks at the same time: a row each, with its own position.

A text is read into a cache of its own, exactly as a single run does, and then copied into a row. Rows in use are the first
ones, so that a step computes exactly those. Rows are zero after their tokens: a mask does not hide NaN, since 0 x NaN is NaN.

Shapes: n rows in use, C characters, S slots up to the longest row, H heads, D width, K codebooks.
"""

import torch
from torch import Tensor

from muomni.models.delay import PendingFrames
from muomni.models.outputs import TalkerOutput
from muomni.models.talker import Talker, TalkerCache
from muomni.nn.masks import DenseMask, Mask

GROWTH = 256  # slots that a larger buffer has more, at least


class SpeechStepCache(TalkerCache):
    """The rows in use during a step: one token each, at its row's position. positions: (n). longest: the greatest of them."""

    def __init__(self, whole: TalkerCache, positions: Tensor, *, longest: int) -> None:
        rows = len(positions)
        self.keys, self.values = whole.keys[:, :rows], whole.values[:, :rows]
        self.text = whole.text[:rows]
        self.pending = None if whole.pending is None else whole.pending.rows(rows)
        self.positions, self.total = positions, longest + 1
        self.rows = torch.arange(rows, device=positions.device)
        self.position, self.left_padded = longest, rows > 1  # rows that end before the longest
        self.visible = torch.arange(self.total, device=positions.device) <= positions[:, None]

    def mask_for(self, count: int, *, window: int | None) -> tuple[Mask | None, int | None]:
        """Each row attends to its own slots."""
        assert count == 1, "a step is one frame"
        return DenseMask(self.visible[:, None]), None

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write key, value (n, H, 1, K) at the rows' positions; returns (n, H, S, K)."""
        keys, values = self.keys[layer], self.values[layer]
        keys[self.rows, :, self.positions] = key[:, :, 0]
        values[self.rows, :, self.positions] = value[:, :, 0]
        return keys[:, :, : self.total], values[:, :, : self.total]

    def advance(self, count: int) -> None:
        """The positions belong to `SpeechSlots`."""


class SpeechSlots:
    """The buffer. Row i holds `lengths[i]` tokens and has spoken `frames[i]` frames."""

    def __init__(self, talker: Talker, *, rows: int) -> None:
        self.talker, self.num_rows = talker, rows
        self.cache = self._buffer(GROWTH)
        self.talkers: list[Talker] = []  # that compute a row where it is the only one
        self.lengths: list[int] = []
        self.frames: list[int] = []

    def join(self, cache: TalkerCache, *, frames: int, talker: Talker) -> int:
        """Copy what a text and its first `frames` frames left in a cache of one row, filled by `talker`; returns the row."""
        assert len(self.lengths) < self.num_rows, "no row is free"
        self._grow(cache.capacity)
        row, end = len(self.lengths), cache.position
        self.cache.keys[:, row, :, :end] = cache.keys[:, 0, :, :end]
        self.cache.values[:, row, :, :end] = cache.values[:, 0, :, :end]
        self.cache.text[row, : cache.text.shape[1]] = cache.text[0]
        if cache.pending is not None:
            self._join_pending(cache.pending)
        self.talkers.append(talker)
        self.lengths.append(end)
        self.frames.append(frames)
        return row

    def _join_pending(self, new: PendingFrames) -> None:
        """Append the row of a text."""
        old, rows = self.cache.pending, len(self.lengths)
        if old is None:
            self.cache.pending = new
        else:
            pairs = zip(old.rows(rows).tensors(), new.tensors(), strict=True)
            self.cache.pending = PendingFrames(*(torch.cat(pair) for pair in pairs))

    def leave(self, row: int) -> int:
        """Free a row; the last row in use moves into it. Returns that row's index before."""
        last = len(self.lengths) - 1
        end = max(self.lengths[row], self.lengths[last])
        for buffer in (self.cache.keys, self.cache.values):
            if row != last:
                buffer[:, row, :, :end] = buffer[:, last, :, :end]
            buffer[:, last, :, :end] = 0
        self.cache.text[row] = self.cache.text[last]
        if self.cache.pending is not None:
            kept = [last if each == row else each for each in range(last)]
            self.cache.pending = PendingFrames(*(each[kept] for each in self.cache.pending.tensors()))
        self.lengths[row], self.frames[row] = self.lengths[last], self.frames[last]
        self.talkers[row] = self.talkers[last]
        self.talkers.pop()
        self.lengths.pop()
        self.frames.pop()
        return last

    def step(self, codes: Tensor) -> TalkerOutput:
        """codes (n, 1, K) of each row's last frame -> logits of its next one."""
        positions, frames = torch.tensor([self.lengths, self.frames]).to(codes.device)
        cache = SpeechStepCache(self.cache, positions, longest=max(self.lengths))
        talker = self.talkers[0] if len(self.talkers) == 1 else self.talker
        out = talker.decode_step(codes, frame=frames, cache=cache)
        self.cache.pending = cache.pending
        self.lengths = [length + 1 for length in self.lengths]
        self.frames = [frame + 1 for frame in self.frames]
        return out

    def _buffer(self, capacity: int) -> TalkerCache:
        cache = self.talker.new_cache(self.num_rows, capacity)
        cache.text = cache.keys.new_zeros(self.num_rows, cache.capacity, self.talker.told_width)
        return cache

    def _grow(self, capacity: int) -> None:
        old = self.cache
        if capacity <= old.capacity:
            return
        self.cache = self._buffer(-(-capacity // GROWTH) * GROWTH)
        self.cache.keys[:, :, :, : old.capacity] = old.keys
        self.cache.values[:, :, :, : old.capacity] = old.values
        self.cache.text[:, : old.capacity] = old.text
        self.cache.pending = old.pending
