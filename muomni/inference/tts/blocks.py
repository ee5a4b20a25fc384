"""Frames of codes -> blocks of the waveform, while the codes are still being generated.

The first block is short, so that a listener waits for few frames, and each one after it twice as long as the one before, up to
`BLOCK_SECONDS`: longer blocks are cheaper, and each plays while the next one is made. Whole utterances are synthesised by the
same blocks, so the joined chunks of a stream equal the utterance bit for bit.

A block depends on the codes up to its look-ahead only, whenever it is rendered: late (a scheduler with other utterances to
serve) is the same as at once.

Legend: T frames of codes, K codebooks, N samples.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

FIRST_BLOCK_SECONDS = 0.24  # with 0.16 the second block of four streams on a core comes too late
BLOCK_SECONDS = 0.64


class BlockSynthesizer(ABC):
    """Frames of codes in, blocks of samples out. Block borders depend on the number of frames only, not on how they are
    pushed.

    Args:
        frame_rate: frames of codes a second. ahead: frames of look-ahead after a block. shortest, longest: bounds of a block's
            frames.
    """

    def __init__(self, *, frame_rate: float, ahead: int, shortest: int = 1, longest: int = 1) -> None:
        self.longest = max(longest, shortest, round(BLOCK_SECONDS * frame_rate))
        self.block = min(self.longest, max(shortest, round(FIRST_BLOCK_SECONDS * frame_rate)))
        self.ahead = ahead
        self.codes: list[Tensor] = []  # K each
        self.closed = False
        self.done = 0  # frames already synthesised

    def add(self, codes: Tensor) -> None:
        """Append codes (n, K); `render` then returns the blocks that they complete."""
        self.codes += list(codes)

    def end(self) -> None:
        """No more codes will come: the rest is complete."""
        self.closed = True

    @property
    def ready(self) -> bool:
        """True if a block is complete, with its look-ahead."""
        left = len(self.codes) - self.done
        return left > 0 if self.closed else left >= self.block + self.ahead

    @torch.inference_mode()
    def render(self) -> Tensor:
        """The next block (N); the last one is up to 1.5 times as long as its turn."""
        left = len(self.codes) - self.done
        if left >= self.block + self.ahead:
            size, known, last = self.block, self.done + self.block + self.ahead, False
        else:
            assert self.closed, "the block has no look-ahead yet"
            size = left if left <= self.block + self.block // 2 else self.block
            known, last = len(self.codes), True
        self.block = min(2 * self.block, self.longest)
        block = self._render(self.done + size, known=known, last=last)
        self.done += size
        return block

    @abstractmethod
    def _render(self, end: int, *, known: int, last: bool) -> Tensor:
        """Frames done..end -> samples (N), by the first `known` frames; last: they are all."""
