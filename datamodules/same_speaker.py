"""Another clip of the same speaker for each clip of a manifest, from which a Talker learns a voice.

What is kept is two numbers a clip, so that sets of millions of rows stay on the disk.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from datamodules.lazy_rows import column
from datamodules.manifests import Row


def speaker_of(row: Row) -> str:
    """The name of the speaker, "0" where the row has none: no key, null, an empty text."""
    name = row.get("speaker")
    return "0" if name is None or name == "" else str(name)


def _speaker_key(row: Row) -> int:
    """A number of 63 bits for the speaker of a row."""
    return int.from_bytes(hashlib.sha256(speaker_of(row).encode()).digest()[:8], "big") >> 1


class SameSpeaker:
    """Clips by their speaker.

    Args:
        rows: of the manifest. index: rows of the clips to choose from, in their order.
    """

    def __init__(self, rows: Sequence[Row], index: np.ndarray) -> None:
        keys = column(rows, "speaker key", _speaker_key, dtype=np.int64)[index]
        self._clips = np.argsort(keys, kind="stable").astype(np.int32)  # the clips of a speaker follow each other
        self._at = np.empty_like(self._clips)
        self._at[self._clips] = np.arange(len(keys), dtype=np.int32)
        self._begins = np.flatnonzero(np.r_[True, np.diff(keys[self._clips]) != 0, True])

    def other(self, clip: int, rng: np.random.Generator | None) -> int:
        """A clip of the same speaker, never the same one unless the speaker has no other. rng: draws it; None: the next one in
        the order of the manifest, the first after the last."""
        at = int(self._at[clip])
        group = int(np.searchsorted(self._begins, at, side="right")) - 1
        begin, end = int(self._begins[group]), int(self._begins[group + 1])
        count = end - begin
        if count == 1:
            return clip
        step = 1 if rng is None else int(rng.integers(1, count))
        return int(self._clips[begin + (at - begin + step) % count])
