"""A chunk of one prompt, appended to its row: a pure function of tensors, which can be compiled as a whole.

What `decoding.generate.prefill` computes in some hundred operations, which for a small model take several times as long as their
arithmetic. Attention covers the first S slots, S being the length of an argument, as in `RowsStep`.

Shapes: T tokens, S slots, R rows of the buffers, C capacity, G key-value heads, K head width, D width, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn

from muomni.inference.scheduling.flat_cache import FlatCache
from muomni.inference.scheduling.near_ties import greedy_choices
from muomni.models.thinker import Thinker
from muomni.nn.masks import DenseMask, Mask


class PromptCache(FlatCache):
    """One row of buffers, for T tokens at positions (T). row: (1), its index: not known when a step is compiled."""

    def __init__(
        self, *buffers: list[Tensor], row: Tensor, positions: Tensor, heads: int, capacity: int, **options: Any
    ) -> None:
        super().__init__(*buffers, positions=positions, heads=heads, capacity=capacity, **options)
        self.row = row
        row_heads = row * heads + torch.arange(heads, device=row.device)
        self.targets = (row_heads[:, None] * capacity + positions).flatten()
        self.input_targets = row * capacity + positions

    def mask_for(self, count: int, *, window: int | None) -> tuple[Mask | None, int | None]:
        """Of all S slots."""
        return DenseMask(self.visible(window)[None]), None

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write key, value (1, G, T, K) at the positions; returns the first S slots of the row, (1, G, S, K)."""
        return self._append(self.keys[layer], key), self._append(self.values[layer], value)

    def _append(self, buffer: Tensor, new: Tensor) -> Tensor:
        buffer.index_copy_(0, self.targets, new.flatten(0, 2).to(buffer.dtype))
        return buffer.view(self.shape)[:, :, : self.total].index_select(0, self.row)

    def append_conv_inputs(self, layer: int, x: Tensor, *, count: int) -> Tensor:
        """Write the inputs x (1, T, D) of a short convolution; returns them after the `count` before them, (1, count + T, D):
        zeros before the first token."""
        inputs = self.inputs[layer]
        inputs.index_copy_(0, self.input_targets, x[0].to(inputs.dtype))
        back = torch.arange(count, 0, -1, device=x.device)
        before = inputs[(self.input_targets[:1] - back).clamp_min(0)] * (self.positions[:1] >= back)[:, None]
        return torch.cat((before.to(x.dtype)[None], x), dim=1)


class PromptStep(nn.Module):
    """Tokens (T), their consecutive positions (T), slots (S), row (1) and the buffers, which are updated in place -> logits
    (1, V) after the last token, and their `greedy_choices` (1, 2)."""

    def __init__(self, thinker: Thinker, *, capacity: int) -> None:
        super().__init__()
        self.thinker, self.capacity = thinker, capacity

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        slots: Tensor,
        row: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
        inputs: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """See the class. slots: 0, 1, ..., at least up to the last position."""
        cache = PromptCache(
            keys,
            values,
            inputs,
            row=row,
            positions=positions,
            slots=slots,
            heads=self.thinker.num_kv_heads,
            capacity=self.capacity,
        )
        output = self.thinker(tokens[None], positions=positions, cache=cache, last_only=True)
        logits: Tensor = output.logits[:, -1]
        return logits, greedy_choices(logits)
