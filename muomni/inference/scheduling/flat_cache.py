"""The buffers of a `SlotCache` as steps that are compiled use them: flat, since such a step would copy a whole buffer that it
writes into by a view. What is written where, the steps decide (rows_step.py, prompt_step.py).

Shapes: R rows, n positions, S slots, C capacity, G key-value heads, K head width, D width.
"""

from torch import Tensor

from muomni.nn.cache import KVCache


class FlatCache(KVCache):
    """keys, values: of each layer (R * G * C, K), inputs: (R * C, D). positions (n): of the tokens. Attention covers the first S
    slots.

    `advance` is a no-op: the owner of the rows counts their tokens.
    """

    def __init__(
        self, keys: list[Tensor], values: list[Tensor], inputs: list[Tensor], *, positions: Tensor, slots: Tensor,
        heads: int, capacity: int,
    ) -> None:  # fmt: skip
        self.keys, self.values, self.inputs = keys, values, inputs  # type: ignore[assignment]
        self.positions, self.slots, self.total = positions, slots, slots.shape[0]
        self.shape = (-1, heads, capacity, keys[0].shape[-1])

    def visible(self, window: int | None) -> Tensor:
        """(n, S) bool: which slots a token attends to."""
        visible = self.slots <= self.positions[:, None]
        return visible if window is None else visible & (self.slots > self.positions[:, None] - window)

    def advance(self, count: int) -> None:
        """A no-op: see the class."""
