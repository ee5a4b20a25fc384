"""What the blocks of a forward share, as one argument.

Legend: B batch, T new tokens, S all tokens (cached and new), K head width.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from muomni.nn.cache import KVCache
from muomni.nn.chunked import ChunkCache
from muomni.nn.masks import Mask
from muomni.nn.packed import Runs


class KernelMask(NamedTuple):
    """A mask as the kernels take it, for attention of one shape.

    tensor: (B, 1, T, S) bool, None where none is needed; is_causal: the kernel's own flag; runs: in place of both, for the
    variable-length kernel. reach: how many of a cache's last tokens are read, None for all. tap_masks: of the short
    convolution, see there.
    """

    tensor: Tensor | None
    is_causal: bool
    runs: Runs | None = None
    reach: int | None = None
    tap_masks: list[Tensor | None] | None = None


@dataclass(frozen=True, slots=True)
class AttentionContext:
    """rope: cos and sin of the new tokens (`Rope`); local_rope: those of attention with a window, None: rope. mask: of the new
    tokens, without a cache, which has its own. conv_skip: (B, T) bool, True for tokens that the short convolution leaves out.
    cache: tokens read before; it is written to. kernel: of `Attention.prepare`, which a `Transformer` calls once for all its
    blocks of a window."""

    rope: tuple[Tensor, Tensor] | None = None
    mask: Mask | None = None
    conv_skip: Tensor | None = None
    cache: KVCache | ChunkCache | None = None
    kernel: KernelMask | None = None
    local_rope: tuple[Tensor, Tensor] | None = None


NO_CONTEXT = AttentionContext()
