"""What the Talker keeps of a text and the frames spoken so far.

Legend: B batch, D width.
"""

from torch import Tensor

from muomni.models.delay import PendingFrames
from muomni.nn.cache import KVCache


class TalkerCache(KVCache):
    """Keys and values, and `text` (B, frames, D), which is added to the input of each frame; with durations D + 1 numbers.
    pending: with pattern=delay."""

    text: Tensor
    pending: PendingFrames | None = None
