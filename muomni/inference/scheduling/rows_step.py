"""One token of several rows, each at its own position: a pure function of tensors, which can be compiled as a whole.

The Thinker's own modules run in it, on the first n rows of a `SlotCache`. Attention covers the first S slots, S being the length
of an argument.

Shapes: R rows of the buffers, n of them computed, S slots, C capacity, G key-value heads, K head width, D width, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn

from muomni.inference.scheduling.flat_cache import FlatCache
from muomni.inference.scheduling.near_ties import greedy_choices
from muomni.models.thinker import Thinker
from muomni.nn.masks import DenseMask, Mask


class RowsCache(FlatCache):
    """The first n rows of buffers, for one token of each at positions (n)."""

    def __init__(self, *buffers: list[Tensor], positions: Tensor, heads: int, capacity: int, **options: Any) -> None:
        super().__init__(*buffers, positions=positions, heads=heads, capacity=capacity, **options)
        self.count = positions.shape[0]
        rows = torch.arange(self.count, device=positions.device)
        row_heads = rows[:, None] * heads + torch.arange(heads, device=positions.device)
        self.targets = (row_heads * capacity + positions[:, None]).flatten()
        self.input_targets = rows * capacity + positions

    def mask_for(self, count: int, *, window: int | None) -> tuple[Mask | None, int | None]:
        """Of all S slots."""
        return DenseMask(self.visible(window)[:, None]), None

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write key, value (n, G, 1, K) at the positions; returns the first S slots, (n, G, S, K)."""
        key, value = key.flatten(0, 2), value.flatten(0, 2)
        self.keys[layer].index_copy_(0, self.targets, key.to(self.keys[layer].dtype))
        self.values[layer].index_copy_(0, self.targets, value.to(self.values[layer].dtype))
        keys, values = self.keys[layer].view(self.shape), self.values[layer].view(self.shape)
        return keys[: self.count, :, : self.total], values[: self.count, :, : self.total]

    def append_conv_inputs(self, layer: int, x: Tensor, *, count: int) -> Tensor:
        """Write the inputs x (n, 1, D) of a short convolution; returns each after the `count` before it, (n, count + 1, D):
        zeros before the first token."""
        inputs = self.inputs[layer]
        inputs.index_copy_(0, self.input_targets, x[:, 0].to(inputs.dtype))
        back = torch.arange(count, 0, -1, device=x.device)
        before = inputs[(self.input_targets[:, None] - back).clamp_min(0)]
        before = before * (self.positions[:, None] >= back)[..., None]
        return torch.cat((before.to(x.dtype), x), dim=1)


class RowsStep(nn.Module):
    """Tokens (n), positions (n), slots (S) and the buffers, which are updated in place -> logits (n, V)."""

    def __init__(self, thinker: Thinker, *, capacity: int) -> None:
        super().__init__()
        self.thinker, self.capacity = thinker, capacity

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        slots: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
        inputs: list[Tensor],
    ) -> Tensor:
        """See the class. slots: 0, 1, ..., at least up to the largest position."""
        cache = RowsCache(
            keys,
            values,
            inputs,
            positions=positions,
            slots=slots,
            heads=self.thinker.num_kv_heads,
            capacity=self.capacity,
        )
        output = self.thinker(tokens[:, None], positions=positions[:, None], cache=cache, last_only=True)
        logits: Tensor = output.logits[:, -1]
        return logits


class ChoosingStep(nn.Module):
    """A `RowsStep` with the greedy choices, which compiled cost next to nothing -> logits (n, V) and `greedy_choices` (n, 2)."""

    def __init__(self, thinker: Thinker, *, capacity: int) -> None:
        super().__init__()
        self.step = RowsStep(thinker, capacity=capacity)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        slots: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
        inputs: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """As of `RowsStep`."""
        logits = self.step(tokens, positions, slots, keys, values, inputs)
        return logits, greedy_choices(logits)
