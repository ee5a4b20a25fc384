"""A cache that a graph takes and returns: the keys and values of the tokens read so far are inputs, with the new ones they are
outputs.

Legend: L layers, B batch, G key-value heads, P tokens read so far, T new tokens, K head width, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from muomni.interop.onnx.spec import Port
from muomni.nn.cache import KVCache
from muomni.nn.masks import Mask, PaddingMask


class PastCache(KVCache):
    """What a model's forward writes to and reads from in place of a preallocated `KVCache`.

    past: key and value (B, G, P, K) of each layer; after them, with short convolutions, the last inputs (B, W - 1, D) of each.
    keep: (B, P + T) bool, True for real tokens.
    """

    def __init__(self, past: Sequence[Tensor], keep: Tensor, *, num_layers: int) -> None:
        self.past, self.convs = list(past[: 2 * num_layers]), list(past[2 * num_layers :])
        self.keep, self.left_padded = keep, True
        self.position = past[0].shape[2]  # P, all through a call

    @property
    def present(self) -> list[Tensor]:
        """What the next call takes as `past`."""
        return [*self.past, *self.convs]

    def mask_for(self, count: int, *, window: int | None) -> tuple[Mask | None, int | None]:
        """See `KVCache.mask_for`; all keys are read, a window is in the mask."""
        return PaddingMask(self.keep), None

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """See `KVCache.append`."""
        for index, new in ((2 * layer, key), (2 * layer + 1, value)):
            self.past[index] = torch.cat([self.past[index], new], dim=2)
        return self.past[2 * layer], self.past[2 * layer + 1]

    def append_conv_inputs(self, layer: int, x: Tensor, *, count: int) -> Tensor:
        """See `KVCache.append_conv_inputs`."""
        x = torch.cat([self.convs[layer], x * self.keep[:, self.position :, None]], dim=1)
        self.convs[layer] = x[:, -count:]
        return x

    def advance(self, count: int) -> None:
        """The graph's caller counts tokens."""


def past_ports(
    *, num_layers: int, kv_heads: int, head_dim: int, conv: tuple[int, int] | None, new: str
) -> tuple[list[Port], list[Port]]:
    """Inputs `past.*` and outputs `present.*`. conv: tokens and width of a short convolution. new: the
    axis of the tokens that a call adds."""
    inputs, outputs = [], []
    for layer in range(num_layers):
        for what in ("key", "value"):
            axes = ("batch", kv_heads, "past", head_dim)
            inputs.append(
                Port(name=f"past.{layer}.{what}", axes=axes, about="of the call before; first without tokens")
            )
            axes = ("batch", kv_heads, f"past + {new}", head_dim)
            outputs.append(Port(name=f"present.{layer}.{what}", axes=axes, about="the next call's past"))
    for layer in range(num_layers if conv is not None else 0):
        state: tuple[int | str, ...] = ("batch", *(conv or ()))
        inputs.append(Port(name=f"past.{layer}.conv", axes=state, about="of the call before; first zeros"))
        outputs.append(Port(name=f"present.{layer}.conv", axes=state, about="the next call's past"))
    return inputs, outputs
