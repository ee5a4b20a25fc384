"""Keys and values of the tokens read so far: preallocated, owned by the caller, with an explicit position.

Legend: L layers, B batch, G key-value heads, S capacity, T new tokens, K head width.
"""

import torch
from torch import Tensor

from muomni.nn.masks import Mask, PaddingMask


class KVCache:
    """One buffer for all layers. The caller allocates it, passes it to `forward`, and may roll it back.

    A model calls `append(layer, key, value)` in every layer and `advance(T)` once at the end of its forward.
    `keep` (B, S) bool: True for slots of real tokens, False for the left padding of rows of unlike lengths.
    With short convolutions also `append_conv_inputs(layer, x)`, which keeps the inputs of every token, so that rolling back
    is exact.
    Bytes: layers x batch x capacity x (2 x kv_heads x head_dim + conv_dim) x bytes of the dtype.
    """

    by_operator = False
    """Noted by who fills it and has two ways to compute a row: a generation keeps to the one that it began with."""

    def __init__(
        self,
        *,
        num_layers: int,
        batch_size: int,
        num_kv_heads: int,
        capacity: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str,
        conv_dim: int = 0,
    ) -> None:
        shape = (num_layers, batch_size, num_kv_heads, capacity, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.inputs = torch.zeros(num_layers, batch_size, capacity, conv_dim, dtype=dtype, device=device)
        self.keep = torch.ones(batch_size, capacity, dtype=torch.bool, device=device)
        self.left_padded = False
        self.position = 0

    @property
    def capacity(self) -> int:
        """The most tokens that fit."""
        return self.keys.shape[3]

    @property
    def remaining(self) -> int:
        """Tokens that still fit."""
        return self.capacity - self.position

    @property
    def nbytes(self) -> int:
        """Memory of keys, values and inputs in bytes."""
        return self.keys.nbytes + self.values.nbytes + self.inputs.nbytes

    def mask_for(self, count: int, *, window: int | None) -> tuple[Mask | None, int | None]:
        """The mask of `count` tokens to come, None where nothing is padding, and how many of the last slots it is for: those
        that a window reaches, None for all."""
        reach = None if window is None else window + count - 1
        if not self.left_padded:
            return None, reach
        end = self.position + count
        return PaddingMask(self.keep[:, 0 if reach is None else max(0, end - reach) : end]), reach

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write key, value (B, G, T, K) at the position; returns all up to and with them, (B, G, position + T, K)."""
        end = self.position + key.shape[2]
        if end > self.capacity:
            raise ValueError(f"Too many tokens: {end} > {self.capacity} (the cache's capacity)")
        self.keys[layer, :, :, self.position : end] = key
        self.values[layer, :, :, self.position : end] = value
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def append_conv_inputs(self, layer: int, x: Tensor, *, count: int) -> Tensor:
        """Write inputs x (B, T, D) of a short convolution; returns them with the `count` before them, (B, count + T, D): zeros
        for padding and before the first token."""
        if self.left_padded:
            x = x * self.keep[:, self.position : self.position + x.shape[1], None]
        self.inputs[layer, :, self.position : self.position + x.shape[1]] = x
        before = self.inputs[layer, :, max(0, self.position - count) : self.position].to(x.dtype)
        return torch.cat((x.new_zeros(x.shape[0], count - before.shape[1], x.shape[2]), before, x), dim=1)

    def mask_padding(self, keep: Tensor) -> None:
        """Mark the slots from the position on: keep (B, T) bool, True where the next tokens are real."""
        self.keep[:, self.position : self.position + keep.shape[1]] = keep
        self.left_padded = True

    def advance(self, count: int) -> None:
        """Move the position on by `count` tokens."""
        self.position += count

    def roll_back(self, position: int) -> None:
        """Forget everything from `position` on."""
        if not 0 <= position <= self.position:
            raise ValueError(f"cannot roll the cache back to {position}: it holds {self.position} tokens")
        self.keep[:, position:] = True
        self.position = position

    def reorder(self, rows: Tensor) -> None:
        """Keep the rows of these indices (N), long, in this order, repeated or left out (beam search)."""
        self.keys, self.values, self.inputs = self.keys[:, rows], self.values[:, rows], self.inputs[:, rows]
        self.keep = self.keep[rows]

    def reset(self) -> None:
        """Forget everything."""
        self.left_padded = False
        self.roll_back(0)
