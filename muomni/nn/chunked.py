"""Attention and convolutions by chunks with a bounded right context, so that an encoder can be run while its input arrives.

Time is divided into chunks of C frames. The block of a chunk are its frames and the R after them, its right context; it attends
to itself and to the chunks before it. What stands in a right context is computed once for that block alone, so frames of later
chunks reach no layer's view of it: however deep the stack, a chunk is final C + R frames after its begin (Emformer, Shi et al.
2021, arXiv:2010.10759, without its memory bank). A convolution reads its block and the chunks before, and zeros after the block.

`ChunkMask` lays the blocks of whole rows side by side, for training and offline use. `ChunkCache` holds what one block leaves
for the next, for a stream. Both compute the same.

Legend: B batch, T frames, C frames of a chunk, R of its right context, L before the chunk that are attended to, K blocks,
n = K (C + R) tokens, D width, P frames before its own that a convolution reads, H heads, W head width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Chunks:
    """chunk: C; right: R; left: L, None for all. Frames of the encoder."""

    chunk: int
    right: int
    left: int | None

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.right < 0 or (self.left is not None and self.left < 0):
            raise ValueError(f"chunk >= 1, right_context >= 0 and left_context >= 0 are needed, not {self}")

    @property
    def block(self) -> int:
        """C + R."""
        return self.chunk + self.right

    def tokens(self, frames: int) -> int:
        """n of a row of so many frames."""
        return -(-frames // self.chunk) * self.block


@dataclass(frozen=True, slots=True)
class ChunkMask:
    """Blocks side by side in rows of tokens. chunks: their sizes. frames (n) long: which frame each token is; keep (B, n) bool:
    True where that is within the row, B is 1 where it is the same for all."""

    chunks: Chunks
    frames: Tensor
    keep: Tensor

    @classmethod
    def of(cls, chunks: Chunks, lengths: Tensor | None, total: int, device: torch.device) -> "ChunkMask":
        """Of rows of `total` frames, of which the first `lengths` (B) are valid, None: all."""
        starts = torch.arange(0, total, chunks.chunk, device=device)
        frames = (starts[:, None] + torch.arange(chunks.block, device=device)).flatten()
        ends = torch.tensor([total], device=device) if lengths is None else lengths
        return cls(chunks, frames, frames < ends[:, None])

    def spread(self, x: Tensor) -> Tensor:
        """Frames (B, T, D) -> tokens (B, n, D); those beyond the end are copies of the last frame."""
        return x[:, self.frames.clamp(max=x.shape[1] - 1)]

    def gather(self, x: Tensor, total: int) -> Tensor:
        """Tokens (B, n, D) -> frames (B, total, D), each as its own chunk has it."""
        B, _, D = x.shape
        return x.view(B, -1, self.chunks.block, D)[:, :, : self.chunks.chunk].reshape(B, -1, D)[:, :total]

    def dense(self, count: int, *, causal: bool, window: int | None) -> Tensor:
        """(B, 1, n, n) bool: what tokens attend to. One beyond its row's end attends to itself: a softmax over nothing is NaN."""
        assert not causal, "what a chunk attends to is said by its sizes"
        C, slots = self.chunks.chunk, torch.arange(count, device=self.frames.device)
        block = slots // self.chunks.block
        own_chunk = slots % self.chunks.block < C
        before = (block[None] < block[:, None]) & own_chunk
        if self.chunks.left is not None:
            before = before & (self.frames >= block[:, None] * C - self.chunks.left)
        visible = (block[None] == block[:, None]) | before
        itself = torch.eye(count, dtype=torch.bool, device=self.frames.device)
        return ((visible & self.keep[:, None]) | itself)[:, None]

    def convolve(self, conv: nn.Conv1d, x: Tensor) -> Tensor:
        """A depthwise convolution of odd kernel 2 P + 1 over tokens (B, n, D), block by block."""
        B, n, D = x.shape
        C, width, past = self.chunks.chunk, self.chunks.block, conv.kernel_size[0] // 2
        x = x * self.keep[..., None].to(x.dtype)
        starts = torch.arange(0, n // width, device=x.device)[:, None] * C
        before = starts - past + torch.arange(past, device=x.device)  # frames, some below 0
        slots = torch.where(before < 0, n, before // C * width + before % C)
        own = torch.arange(n, device=x.device).view(-1, width)
        blocks = F.pad(x, (0, 0, 0, 1))[:, torch.cat([slots, own], dim=1)]  # B K P+C+R D; slot n is zeros
        return depthwise(conv, blocks.flatten(0, 1)).reshape(B, n, D)

    def attends_back(self, distance: int) -> Tensor:
        """See `PaddingMask`: for short convolutions, which no encoder has."""
        raise TypeError("a short convolution cannot be laid out in chunks")


def depthwise(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """x (B, P + T, D), whose first P frames are those before -> (B, T, D), zeros after the last frame."""
    padded = F.pad(x.transpose(1, 2), (0, conv.kernel_size[0] // 2))
    return F.conv1d(padded, conv.weight, conv.bias, groups=conv.groups).transpose(1, 2)


class ChunkCache:
    """What the chunks before left in each layer: keys, values and the inputs of its convolution. Owned by the caller; for one
    forward at a time, of a block whose first C frames stay."""

    def __init__(self, chunks: Chunks) -> None:
        self.chunks = chunks
        self.past: dict[tuple[str, int], Tensor] = {}
        self.new: dict[tuple[str, int], Tensor] = {}
        self.position = 0  # frames of the chunks before

    def mask_for(self, count: int, *, window: int | None) -> tuple[None, None]:
        """None: a block attends to all that `append` returns."""
        return None, None

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """key, value (1, H, T, W) of a block -> with those before that it attends to, (1, H, S, W)."""
        return self._joined("key", layer, key, dim=2), self._joined("value", layer, value, dim=2)

    def convolve(self, conv: nn.Conv1d, x: Tensor, *, layer: int) -> Tensor:
        """As `ChunkMask.convolve` of a block, x (1, T, D)."""
        past = conv.kernel_size[0] // 2
        before = self.past.get(("conv", layer), x[:, :0])[:, -past:] if past else x[:, :0]
        self.new["conv", layer] = torch.cat([before, x[:, : self.chunks.chunk]], dim=1)
        before = F.pad(before, (0, 0, past - before.shape[1], 0))
        return depthwise(conv, torch.cat([before, x], dim=1))

    def advance(self, count: int) -> None:
        """The block of `count` frames has passed all layers: keep its chunk, forget its right context."""
        self.past, self.new = self.new, {}
        self.position += min(count, self.chunks.chunk)

    def _joined(self, name: str, layer: int, x: Tensor, *, dim: int) -> Tensor:
        if (before := self.past.get((name, layer))) is None:
            before = x.narrow(dim, 0, 0)
        own = x.narrow(dim, 0, min(self.chunks.chunk, x.shape[dim]))
        kept = torch.cat([before, own], dim=dim)
        if self.chunks.left is not None:
            length = min(self.chunks.left, kept.shape[dim])
            kept = kept.narrow(dim, kept.shape[dim] - length, length)
        self.new[name, layer] = kept
        return torch.cat([before, x], dim=dim)
