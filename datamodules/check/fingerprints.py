"""Which of millions of items are the same: a 64-bit hash and a number each, 16 bytes an item."""

import hashlib
from array import array

import numpy as np

#: (number of the item, number of the one that it is the same as)
Pair = tuple[int, int]


def fingerprint(content: str | bytes) -> int:
    """64 bits of a content: of ten million, two unlike ones are the same with a chance of one in 300 000."""
    data = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


class Fingerprints:
    """Items by hash. A number says where an item is: its line."""

    def __init__(self) -> None:
        self._hashes, self._numbers = array("Q"), array("q")

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, hashed: int, number: int) -> None:
        """Count an item."""
        self._hashes.append(hashed)
        self._numbers.append(number)

    def repeated(self, most: int) -> tuple[int, list[Pair]]:
        """How many items are the same as an earlier one, and the first pairs."""
        hashes, numbers = np.asarray(self._hashes), np.asarray(self._numbers)
        _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        earlier = first[inverse]
        again = np.flatnonzero(earlier != np.arange(len(hashes)))
        return len(again), [(int(numbers[i]), int(numbers[earlier[i]])) for i in again[:most]]

    def shared(self, other: "Fingerprints", most: int) -> tuple[int, list[Pair]]:
        """How many of these items are among the others, and the first pairs (this number, the other's)."""
        hashes, numbers = np.asarray(self._hashes), np.asarray(self._numbers)
        theirs, first = np.unique(np.asarray(other._hashes), return_index=True)
        if not len(theirs):
            return 0, []
        place = np.minimum(np.searchsorted(theirs, hashes), len(theirs) - 1)
        found = np.flatnonzero(theirs[place] == hashes)
        return len(found), [(int(numbers[i]), int(other._numbers[first[place[i]]])) for i in found[:most]]
