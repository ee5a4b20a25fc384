"""A permutation of range(N) that is a function of a key and holds no array of N numbers.

Any run of its positions is computed in time and memory of that run: an epoch of a billion samples is entered anywhere at once.
A Feistel network (Luby and Rackoff 1988) over a rectangle that is hardly larger than N, with sums modulo its sides instead of
exclusive or; what it maps outside of range(N) is mapped again until it is inside (Black and Rogaway 2002).
"""

import math
from collections.abc import Sequence

import numpy as np

ROUNDS = 6
FACTORS = np.array([0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93], dtype=np.uint64)  # odd, of splitmix64 and rrmxmx


class KeyedPermutation:
    """Sliced like an array of the permuted numbers: `permutation[start:stop]` -> int64.

    Args:
        size: N, at least 1. key: numbers of at least 0; another key is another permutation.
    """

    def __init__(self, size: int, key: Sequence[int]) -> None:
        self.size = size
        width = math.isqrt(size - 1) + 1
        self.sides = np.array([width, -(-size // width)], dtype=np.uint64)
        self.keys = np.random.SeedSequence(list(key)).generate_state(ROUNDS, np.uint64)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, positions: slice) -> np.ndarray:
        found = self._permuted(np.arange(*positions.indices(self.size), dtype=np.uint64))
        outside = np.flatnonzero(found >= self.size)
        while len(outside):
            again = self._permuted(found[outside])
            found[outside] = again
            outside = outside[again >= self.size]
        return found.astype(np.int64)

    def _permuted(self, numbers: np.ndarray) -> np.ndarray:
        """Of the rectangle. Each round moves one coordinate by a hash of the other, which can be undone."""
        width, height = self.sides
        row, column = np.divmod(numbers, width)
        for number, key in enumerate(self.keys):
            if number % 2:
                row = (row + _hash(column, key)) % height
            else:
                column = (column + _hash(row, key)) % width
        return row * width + column


def _hash(numbers: np.ndarray, key: np.uint64) -> np.ndarray:
    """Below 2^48, so that a sum does not overflow."""
    mixed = (numbers + key) * FACTORS[0]
    mixed ^= mixed >> np.uint64(32)
    mixed *= FACTORS[1]
    return mixed >> np.uint64(16)
