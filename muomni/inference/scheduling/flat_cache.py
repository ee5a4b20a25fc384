"""The buffers of a `SlotCache` as steps that are compiled use them: flat, since such a step would copy a whole buffer that it
writes into by a view. What is written where, the steps decide (rows_step.py, prompt_step.py).

Shapes: R rows, n positions, S slots, C capacity, G key-value heads, K head width, D width.
"""

from torch import Tensor

from muomni.nn.cache import KVCache
from muomni.nn.masks import DenseMask, Mask


class FlatCache(KVCache):
    """keys, values: of each layer (R * G * C, K), inputs: (R * C, D). positions (n): of the tokens. Attention covers the first S
    slots; `visible` (n, S) says which a token may see, to which a step adds the dimension that its rows have.

    `advance` is a no-op: the owner of the rows counts their tokens.
    """

    def __init__(
        self, keys: list[Tensor], values: list[Tensor], inputs: list[Tensor], *, positions: Tensor, slots: Tensor,
        heads: int, capacity: int, window: int | None,
    ) -> None:  # fmt: skip
        self.keys, self.values, self.inputs = keys, values, inputs  # type: ignore[assignment]
        self.positions, self.total = positions, slots.shape[0]
        self.shape = (-1, heads, capacity, keys[0].shape[-1])
        visible = slots <= positions[:, None]
        if window is not None:
            visible = visible & (slots > positions[:, None] - window)
        self.visible = visible

    def mask_for(self, count: int, *, window: int | None) -> tuple[Mask | None, int | None]:
        """Of all S slots."""
        return DenseMask(self.visible), None

    def advance(self, count: int) -> None:
        """A no-op: see the class."""
