"""Batches of several data sets by weights: shares that are exact in every window of steps, not in expectation alone.

Draw number t of a training (over all epochs and processes) is of set `pattern[t % period]`, a fixed order whose counts are never
a whole sample away from `weight x t` (Tijdeman 1980, the chairman assignment problem); it is the set's n-th draw, and so sample
n modulo the set's size of the set's own shuffled epoch n // size. Nothing is drawn by chance but the orders, and a position is
found without going through those before it.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from datamodules.batch_sampler import Batches, ResumableBatchSampler, SampleIndex

log = logging.getLogger(__name__)

MAX_PERIOD = 100_000
ROUNDED = 10_000
"""Weights without a shorter period are rounded to this part of all."""


def exact_shares(weights: Mapping[str, Any]) -> dict[str, Fraction]:
    """Weights -> shares, as fractions whose sum is one. Raises ValueError for a weight that is not above 0; of one that is too
    small to be drawn as it is, a warning says how often its set is drawn."""
    for name, weight in weights.items():
        right = isinstance(weight, int | float) and not isinstance(weight, bool) and math.isfinite(weight)
        if not right or weight <= 0:
            raise ValueError(f"data.mixture.{name}={weight}: a weight above 0")
    given = {name: Fraction(str(weight)) for name, weight in weights.items()}
    total = sum(given.values())
    shares = {name: weight / total for name, weight in given.items()}
    if math.lcm(*(share.denominator for share in shares.values())) > MAX_PERIOD:
        counts = _apportion(ROUNDED, [float(share) for share in shares.values()])
        for name, count in zip(shares, counts, strict=True):
            if not count:
                what = f"{float(shares[name]):.2g} of all, is drawn as {1 / ROUNDED:g}, the smallest share"
                log.warning("data.mixture.%s=%s, %s: leave the set out, or give it more", name, weights[name], what)
        shares = {name: Fraction(max(count, 1), ROUNDED) for name, count in zip(shares, counts, strict=True)}
        total = sum(shares.values())
        shares = {name: share / total for name, share in shares.items()}
    return shares


def assignment(shares: Sequence[Fraction]) -> np.ndarray:
    """Shares of sets -> set of each draw of a period, after which every set had its exact share. int64."""
    if len(shares) == 1:
        return np.zeros(1, dtype=np.int64)
    period = math.lcm(*(share.denominator for share in shares))
    units = [int(share * period) for share in shares]
    slack = Fraction(period, 2 * len(shares) - 2)
    counts, order = [0] * len(shares), []
    for t in range(1, period + 1):
        due = [unit * t - count * period for unit, count in zip(units, counts, strict=True)]
        ready = [k for k, each in enumerate(due) if each >= slack]
        chosen = min(ready, key=lambda k: (Fraction(period - slack - due[k], units[k]), k))
        counts[chosen] += 1
        order.append(chosen)
    return np.array(order, dtype=np.int64)


def _apportion(total: int, weights: Sequence[float]) -> list[int]:
    """`total` as whole numbers in proportion to weights, by the largest remainders; of equals the first."""
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [int(each) for each in exact]
    order = sorted(range(len(exact)), key=lambda k: (counts[k] - exact[k], k))
    for k in order[: total - sum(counts)]:
        counts[k] += 1
    return counts


@dataclass(eq=False, repr=False)
class MixtureSampler(ResumableBatchSampler):
    """As its base, over sets one after the other in the indices. An epoch has as many samples as all sets together; a set may be
    drawn several times in it, or in part: its own epochs, by which samples are augmented, go on.

    Args:
        sizes: of the sets. shares: theirs, which sum up to one. lengths: batches are cut from what each set has within a bucket,
            sorted by length, by the shares. groups: stay next to each other, but may be divided between two batches.
        within: where lengths are known, "batch": every batch has the shares. "bucket": `bucket` batches together have them, each
            of samples of similar length, from whatever set: less padding where the sets' lengths differ.
    """

    _: KW_ONLY
    sizes: Sequence[int] = ()
    shares: Sequence[Fraction] = ()
    within: str = "batch"
    _orders: dict[tuple[int, int], np.ndarray] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.curriculum is not None:
            raise ValueError(
                "datamodule.curriculum orders the samples of one data set: leave it null with data.mixture"
            )
        self.pattern = assignment(self.shares)
        is_set = self.pattern[:, None] == np.arange(len(self.sizes))
        self.per_period, self.before = is_set.sum(axis=0), is_set.cumsum(axis=0) - is_set
        self.starts = np.cumsum([0, *self.sizes[:-1]])

    def batches(self, epoch: int) -> tuple[Batches, np.ndarray]:
        """As in the base; of each sample (index, epoch of its set)."""
        if self.overfit is not None:
            epoch = 0
        if self._known is None or self._known[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch, 4])
            used = self.size if self.budget is not None else self.size // self.batch_size * self.batch_size
            which, drawn = self._draws(epoch * used, (epoch + 1) * used)
            cut = (
                list(drawn.reshape(-1, self.batch_size, 2))
                if self.lengths is None
                else self._bucketed(which, drawn, rng)
            )
            cut = cut[: self.overfit]
            self._known = epoch, cut, np.cumsum([len(batch) for batch in cut])
        return self._known[1:]

    def _draws(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws start..stop - 1 -> their sets (n), and index and epoch (n, 2)."""
        t = np.arange(start, stop)
        which = self.pattern[t % len(self.pattern)]
        nth = t // len(self.pattern) * self.per_period[which] + self.before[t % len(self.pattern), which]
        drawn = np.empty((len(t), 2), dtype=np.int64)
        for k, size in enumerate(self.sizes):
            mine = np.flatnonzero(which == k)
            drawn[mine, 1], position = np.divmod(nth[mine], size)
            for epoch in np.unique(drawn[mine, 1]):
                now = drawn[mine, 1] == epoch
                drawn[mine[now], 0] = self.starts[k] + self._order(k, int(epoch))[position[now]]
        return which, drawn

    def _order(self, k: int, epoch: int) -> np.ndarray:
        """The order of set k in one of its epochs."""
        if (k, epoch) not in self._orders:
            self._orders = {key: order for key, order in self._orders.items() if key[0] != k or key[1] == epoch - 1}
            rng = np.random.default_rng([self.seed, epoch, 3, k])
            if self.groups is None:
                order = rng.permutation(self.sizes[k])
            else:
                low, high = self.starts[k], self.starts[k] + self.sizes[k]
                groups = [group for group in self.groups if low <= group[0] < high]
                order = np.concatenate([groups[g] for g in rng.permutation(len(groups))]) - low
            self._orders[k, epoch] = order
        return self._orders[k, epoch]

    def _bucketed(self, which: np.ndarray, drawn: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """Batches of similar lengths, the sets of each in their shares."""
        batches: list[np.ndarray] = []
        if self.within == "bucket":
            which = np.zeros_like(which)  # as if they were one set
        left = [drawn[:0] for _ in range(which.max() + 1)]
        span = self.batch_size * self.bucket
        for start in range(0, len(drawn), span):
            now, sets = drawn[start : start + span], which[start : start + span]
            found = [np.concatenate([each, now[sets == k]]) for k, each in enumerate(left)]
            if self.budget is None:
                batches += self._cut_evenly(sets, [self._sorted(each) for each in found], rng)
            else:
                cut, left = self._cut_within([self._sorted(each) for each in found], self.budget)
                batches += [cut[i] for i in rng.permutation(len(cut))]
        rest = np.concatenate(left)
        return batches + ([rest] if len(rest) >= self.world_size else [])

    def _sorted(self, drawn: np.ndarray) -> np.ndarray:
        """The longest first."""
        assert self.lengths is not None
        return drawn[np.argsort(-self.lengths[drawn[:, 0]], kind="stable")]

    def _cut_evenly(self, sets: np.ndarray, found: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
        """Batches of `batch_size`: each has as many of a set as the draws in its place, of a level of lengths that is random."""
        counts = (sets.reshape(-1, self.batch_size)[..., None] == np.arange(len(found))).sum(axis=1)
        levels = rng.permutation(len(counts))
        ends = np.cumsum(counts[levels], axis=0)
        batches: list[np.ndarray] = [drawn[:0] for drawn in found[:1]] * len(counts)
        for place, level in enumerate(levels):
            start, end = ends[place] - counts[level], ends[place]
            batches[level] = np.concatenate([each[a:b] for each, a, b in zip(found, start, end, strict=True)])
        return batches

    def _cut_within(self, found: list[np.ndarray], budget: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Batches within the budget, the sets of each as what is left of them; and what fills none."""
        assert self.lengths is not None
        batches: list[np.ndarray] = []
        while remaining := sum(map(len, found)):
            longest = max(int(self.lengths[each[0, 0]]) for each in found if len(each))
            count = min(self.batch_size, budget // longest)
            if remaining < count:
                break
            taken = _apportion(count, [len(each) for each in found])
            batches.append(np.concatenate([each[:n] for each, n in zip(found, taken, strict=True)]))
            found = [each[n:] for each, n in zip(found, taken, strict=True)]
        return batches, found

    def __iter__(self):  # type: ignore[no-untyped-def]
        batches, ends = self.batches(self.epoch)
        for batch in batches[np.searchsorted(ends, self.consumed, side="right") :]:
            yield [SampleIndex(int(index), int(epoch)) for index, epoch in batch[self.rank :: self.world_size]]
