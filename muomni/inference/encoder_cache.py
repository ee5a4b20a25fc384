"""Encoded images and audio, kept by their content: a client that sends the whole conversation sends its media at every turn.

Each is encoded on its own, so its features are the same bits whatever else a request holds.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor

Key = tuple[str, bytes]


class EncoderCache:
    """Features by content; those not used for longest are dropped beyond `max_bytes`. Thread-safe: two threads that need the
    same ones at the same time both compute them."""

    def __init__(self, *, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = self.hits = self.misses = 0
        self._entries: OrderedDict[Key, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def features(self, content: Tensor, encode: Callable[[], Tensor], *, options: str) -> Tensor:
        """The result of `encode` for this content, pixels or a waveform, which must depend on nothing else but the options."""
        key = options, digest(content)
        with self._lock:
            kept = self._entries.get(key)
            if kept is not None:
                self._entries.move_to_end(key)
                self.hits += 1
                return kept
            self.misses += 1
        made = encode().clone()  # not a view of something larger
        with self._lock:
            if key not in self._entries and made.nbytes <= self.max_bytes:
                self._entries[key] = made
                self.bytes += made.nbytes
            while self.bytes > self.max_bytes:
                self.bytes -= self._entries.popitem(last=False)[1].nbytes
        return made


def digest(content: Tensor) -> bytes:
    """Of a tensor's shape, dtype and values."""
    array = content.detach().cpu().contiguous().numpy()
    header = f"{array.dtype} {array.shape} ".encode()
    return hashlib.blake2b(header + array.tobytes(), digest_size=16).digest()
