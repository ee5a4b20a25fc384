"""Keys and values of what was read already: preallocated, owned by the caller, with an explicit position.

Legend: L layers, B batch, G key-value heads, S capacity, T new tokens, K head width.
"""

import torch
from torch import Tensor


class KVCache:
    """One buffer for all layers. The caller makes it, passes it to `forward`, and may roll it back.

    A model calls `append(layer, key, value)` in every layer and `advance(T)` once at the end of its forward.
    `keep` (B, S) says which slots hold a real token (False: left padding of a ragged batch).
    Bytes: 2 x layers x batch x capacity x kv_heads x head_dim x bytes of the dtype.
    """

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
    ) -> None:
        shape = (num_layers, batch_size, num_kv_heads, capacity, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.keep = torch.ones(batch_size, capacity, dtype=torch.bool, device=device)
        self.ragged = False
        self.position = 0

    @property
    def capacity(self) -> int:
        """Most tokens it can hold."""
        return self.keys.shape[3]

    @property
    def remaining(self) -> int:
        """Tokens that still fit."""
        return self.capacity - self.position

    @property
    def nbytes(self) -> int:
        """Memory of keys and values in bytes."""
        return self.keys.nbytes + self.values.nbytes

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write key, value (B, G, T, K) behind the position; give all up to and with them, (B, G, position + T, K)."""
        end = self.position + key.shape[2]
        if end > self.capacity:
            raise ValueError(f"Too many tokens: {end} > {self.capacity} (the cache's capacity)")
        self.keys[layer, :, :, self.position : end] = key
        self.values[layer, :, :, self.position : end] = value
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def mask_padding(self, keep: Tensor) -> None:
        """Mark the slots from the position on: keep (B, T) bool, True where a real token will stand."""
        self.keep[:, self.position : self.position + keep.shape[1]] = keep
        self.ragged = True

    def advance(self, count: int) -> None:
        """Count `count` more tokens as read."""
        self.position += count

    def roll_back(self, position: int) -> None:
        """Forget everything from `position` on."""
        if not 0 <= position <= self.position:
            raise ValueError(f"cannot roll the cache back to {position}: it holds {self.position} tokens")
        self.keep[:, position:] = True
        self.position = position

    def reset(self) -> None:
        """Forget everything."""
        self.ragged = False
        self.roll_back(0)
