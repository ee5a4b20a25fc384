"""Keys and values of many requests in one buffer: a row each, with its own position.

The requests that decode are kept in the first rows, so that a step computes exactly those and copies nothing. Rows after them
hold what finished requests left: a prompt that begins as one of them continues from there, as the next turn of a conversation
does, and is not computed again. The least recently used row is given up first.

Whether two tokens are the same is decided by their signatures: the id, and for media slots a hash of the embedding
(`prompt_signature`), since an image's slots all have the same id.

Shapes: L layers, R rows, n active rows, G key-value heads, C capacity, S slots up to the longest active row, K head width,
D width.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from muomni.models.thinker import Thinker
from muomni.nn.cache import KVCache
from muomni.special_tokens import AUDIO, IMAGE

MIN_COPY = 16  # tokens; computing fewer is as fast as copying them from another row

Signature = NDArray[np.int64]


def prompt_signature(ids: Tensor, embeddings: Tensor | None) -> Signature:
    """ids (T), embeddings (T, D) or None without media -> what identifies each token (T): its id, or a negative hash of a media
    slot's embedding."""
    signature = ids.cpu().numpy().astype(np.int64)
    if embeddings is None:
        return signature
    slots = np.flatnonzero((signature == IMAGE) | (signature == AUDIO))
    vectors = embeddings[torch.from_numpy(slots).to(embeddings.device)].float().cpu().contiguous().numpy()
    for slot, vector in zip(slots, vectors, strict=True):
        digest = hashlib.blake2b(vector.tobytes(), digest_size=8).digest()
        signature[slot] = -1 - (int.from_bytes(digest) >> 1)
    return signature


class SlotCache:
    """The buffer. Row i holds `lengths[i]` tokens, identified by `signatures[i]`.

    A row in use is zero after its tokens: a mask does not hide NaN, since 0 * NaN is NaN, and a request must not be ended by what
    another one left. `written`: from there on the rows are zero.
    """

    def __init__(self, thinker: Thinker, *, rows: int) -> None:
        buffer = thinker.new_cache(rows)
        self.keys, self.values, self.inputs = buffer.keys, buffer.values, buffer.inputs
        self.lengths, self.written = np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.int64)
        self.signatures = np.zeros((rows, self.capacity), dtype=np.int64)
        self.used = np.zeros(rows, dtype=np.int64)  # when each row was last taken, in calls of `acquire`
        self.clock = 0
        self.slots = torch.arange(self.capacity, device=self.keys.device)
        #: Views of each layer, for `RowsStep`: keys and values (R G C, K), inputs (R C, D).
        self.layers = (
            list(self.keys.flatten(1, 3)),
            list(self.values.flatten(1, 3)),
            list(self.inputs.flatten(1, 2)),
        )

    @property
    def capacity(self) -> int:
        """The most tokens of a row."""
        return self.keys.shape[3]

    def acquire(self, signature: Signature, idle: Sequence[int]) -> tuple[int, int]:
        """An idle row for a prompt, and how many of its tokens the row holds already; never all, since the last one's logits are
        needed. idle: the rows not in use, at least one."""
        length = len(signature)
        differs = self.signatures[:, :length] != signature
        shared = np.where(differs.any(1), differs.argmax(1), length)
        shared = np.minimum(np.minimum(shared, self.lengths), length - 1)
        best, common = int(shared.argmax()), int(shared.max())
        row = min(idle, key=lambda index: (self.used[index], index))
        if common and best in idle and 2 * common >= self.lengths[best]:
            row = best  # most of it is of use: a copy would only push out another one
        elif best != row and common < MIN_COPY:
            common = 0
        self._zero(row, common)
        if best != row and common:
            for buffer, dim in self._buffers():
                buffer[:, row].narrow(dim, 0, common).copy_(buffer[:, best].narrow(dim, 0, common))
        self.clock += 1
        self.used[row] = self.clock
        self.signatures[row, :length] = signature
        self.lengths[row] = self.written[row] = common
        return row, common

    def extend(self, row: int, token: int) -> None:
        """Record that a decode step has appended a token to a row."""
        self.signatures[row, self.lengths[row]] = token
        self.lengths[row] += 1

    def swap(self, one: int, other: int) -> None:
        """Exchange two rows."""
        if one == other:
            return
        pair, turned = [one, other], [other, one]
        end = int(self.written[pair].max())
        for buffer, dim in self._buffers():
            first, second = (buffer[:, row].narrow(dim, 0, end) for row in pair)
            held = first.clone()
            first.copy_(second)
            second.copy_(held)
        for notes in (self.lengths, self.written, self.signatures, self.used):
            notes[pair] = notes[turned]

    def adopt(self, row: int, cache: KVCache) -> None:
        """Replace what a row holds by the same tokens of a cache of one row."""
        end = int(self.lengths[row])
        for (buffer, dim), other in zip(self._buffers(), (cache.keys, cache.values, cache.inputs), strict=False):
            buffer[:, row].narrow(dim, 0, end).copy_(other[:, 0].narrow(dim, 0, end))

    def forget(self, row: int) -> None:
        """What a row holds is of no use to later prompts."""
        self.lengths[row] = 0

    def _zero(self, row: int, start: int) -> None:
        """Zero a row from a token on."""
        count = int(self.written[row]) - start
        if count > 0:
            for buffer, dim in self._buffers():
                buffer[:, row].narrow(dim, start, count).zero_()

    def _buffers(self) -> list[tuple[Tensor, int]]:
        """The buffers, and the dimension of the tokens in their rows (L, ...)."""
        return [(self.keys, 2), (self.values, 2), (self.inputs, 1)][: 3 if self.inputs.shape[-1] else 2]


class RowCache(KVCache):
    """One row of a `SlotCache`, for `count` tokens from its length on. The owner's length is set by the scheduler."""

    def __init__(self, owner: SlotCache, row: int, *, count: int) -> None:
        one = slice(row, row + 1)
        self.keys, self.values, self.inputs = owner.keys[:, one], owner.values[:, one], owner.inputs[:, one]
        self.left_padded = False
        self.position = int(owner.lengths[row])
        owner.written[row] = self.position + count
