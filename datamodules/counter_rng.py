"""Random numbers of many samples at once, each a pure function of (seed, epoch, index) and of the number of the draw.

A generator for each sample costs more than what it draws; here a batch is one pass of integer arithmetic: the finaliser of
SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195) over a counter.

Legend: B samples, N draws of each.
"""

from collections.abc import Sequence

import numpy as np

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def _mixed(x: np.ndarray) -> np.ndarray:
    """Bits of x (uint64) spread over the whole word."""
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))


def uniform(seed: int, epochs: Sequence[int], indices: Sequence[int], *, draws: int) -> np.ndarray:
    """(B, draws) float64 in [0, 1), the same for the same (seed, epoch, index), whatever the other samples are."""
    with np.errstate(over="ignore"):
        key = _mixed(np.array(seed, dtype=np.uint64) + _STEP)
        for values in (epochs, indices):
            key = _mixed((key ^ np.asarray(values, dtype=np.int64).astype(np.uint64)) + _STEP)
        words = _mixed(key[:, None] + np.arange(1, draws + 1, dtype=np.uint64) * _STEP)
    return (words >> np.uint64(11)) * 2.0**-53
