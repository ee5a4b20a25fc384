"""Streaming statistics: counts in bins whose number does not grow with the data.

A value falls into a bin 1 % wide (of its own size), so that quantiles are right within 0.5 %, and of whole numbers those
up to 100 exact.
"""

import itertools
import math
from collections import Counter
from typing import Any

WIDTH = math.log(1.01)
BARS = 12
STEPS = (1, 2, 2.5, 5, 10)  # of the bars, times a power of ten


class Distribution:
    """Of values that are at least 0. Count, sum, minimum and maximum are exact."""

    def __init__(self) -> None:
        self.count, self.total, self.min, self.max = 0, 0.0, math.inf, 0.0
        self.whole = True
        """Whether all values are whole numbers."""
        self.bins: Counter[int | None] = Counter()
        """Bin -> values; None: zero."""

    def add(self, value: float) -> None:
        """Count a value."""
        self.count += 1
        self.total += value
        self.min, self.max = min(self.min, value), max(self.max, value)
        self.whole = self.whole and value == int(value)
        self.bins[round(math.log(value) / WIDTH) if value > 0 else None] += 1

    @property
    def mean(self) -> float:
        """0 where there is no value."""
        return self.total / max(1, self.count)

    def quantile(self, share: float) -> float:
        """The value that `share` of all are not above; 0 where there is none."""
        wanted, seen = share * self.count, 0
        for value, count in self._values():
            seen += count
            if seen >= wanted:
                return min(max(value, self.min), self.max)
        return self.max

    def above(self, limit: float) -> int:
        """How many are above a limit, values within 0.5 % of it left out."""
        return sum(count for value, count in self._values() if value > limit * math.exp(WIDTH / 2))

    def bars(self) -> list[tuple[float, float, int]]:
        """About a dozen bins of equal, round width: (low, high, count); the last holds all that is longer, up to the
        maximum. Empty where there is no value."""
        if not self.count:
            return []
        most = max(self.quantile(0.99), self.min)
        step = _round_step(most / BARS if most else 1.0)
        if self.whole:
            step = float(max(1, math.ceil(step)))
        counts: Counter[int] = Counter()
        last = max(0, int(most / step) if self.whole else math.ceil(most / step) - 1)
        for value, count in self._values():
            counts[min(last, int(min(value, self.max) / step + 1e-9))] += count
        first = min(counts)
        edges = [number * step for number in range(first, last + 2)]
        edges[-1] = max(edges[-1], self.max)
        return [(low, high, counts[first + n]) for n, (low, high) in enumerate(itertools.pairwise(edges))]

    def summary(self) -> dict[str, Any]:
        """Minimum, median, 95th percentile and maximum."""
        values = (self.min if self.count else 0.0, self.quantile(0.5), self.quantile(0.95), self.max)
        return {name: _short(value) for name, value in zip(("min", "median", "p95", "max"), values, strict=True)}

    def _values(self) -> list[tuple[float, int]]:
        """(value, count) of each bin, in order."""
        bins = sorted((key, count) for key, count in self.bins.items() if key is not None)
        zero = [(0.0, self.bins[None])] if None in self.bins else []
        middles = [(math.exp(key * WIDTH), count) for key, count in bins]
        return zero + ([(_whole(value), count) for value, count in middles] if self.whole else middles)


def _whole(value: float) -> float:
    """The middle of a bin; where a whole number is in it, that."""
    near = round(value)
    return float(near) if near and abs(math.log(value / near)) <= WIDTH / 2 else value


def _short(value: float) -> float:
    """Three digits of a small number, and a whole one of a large one."""
    return round(value, 3) if value < 100 else float(round(value))


def _round_step(least: float) -> float:
    """The smallest round number that is at least `least`."""
    scale = 10.0 ** math.floor(math.log10(least))
    return next(step * scale for step in STEPS if step * scale >= least * (1 - 1e-9))
