"""The batches of a very large epoch, computed a bucket at a time.

A bucket is a run of the shuffled samples: cut into batches, of similar lengths where these are known, and these shuffled. Each is
computed from (seed, epoch, its number) alone, so an epoch of any size is entered anywhere at once and takes no memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import overload

import numpy as np

from datamodules.keyed_permutation import KeyedPermutation


@dataclass(eq=False, repr=False)
class BucketedBatches:
    """Batches by number, each the indices of its samples over all processes.

    Args:
        size: number of samples. batch_size, lengths, budget, world_size: as `ResumableBatchSampler` has them. With a budget the
            samples that are left of a bucket are a batch of their own, and the constructor looks at every length once.
        bucket: batches of `batch_size` in a bucket. key: (seed, epoch).
    """

    size: int
    _: KW_ONLY
    batch_size: int
    bucket: int
    key: tuple[int, int]
    lengths: np.ndarray | None = None
    budget: int | None = None
    world_size: int = 1

    def __post_init__(self) -> None:
        self.order = KeyedPermutation(self.size, self.key)
        self.span = self.batch_size * self.bucket
        self._last: tuple[int, list[np.ndarray]] = -1, []
        if self.budget is None:
            count = self.size // self.batch_size
            self.firsts = np.append(np.arange(0, count, self.bucket), count)
            self.ends = np.arange(1, count + 1) * self.batch_size
        else:
            sizes = self._all_sizes()
            self.firsts = np.cumsum([0, *map(len, sizes)])
            self.ends = np.cumsum([size for bucket, each in enumerate(sizes) for size in self._shuffled(bucket, each)])
        """firsts: the number of each bucket's first batch, and that of all. ends: samples used with each batch."""

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, number: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, number: slice) -> Iterator[np.ndarray]: ...
    def __getitem__(self, number: int | slice) -> np.ndarray | Iterator[np.ndarray]:
        if isinstance(number, slice):
            return map(self.__getitem__, range(*number.indices(len(self))))
        bucket = int(np.searchsorted(self.firsts, number, side="right")) - 1
        if bucket != self._last[0]:
            self._last = bucket, self._cut(bucket)
        return self._last[1][number - self.firsts[bucket]]

    def _all_sizes(self) -> list[list[int]]:
        """`_sizes` of every bucket; many are permuted at once, which takes less time."""
        assert self.lengths is not None
        sizes, many = [], self.span * max(1, 2**18 // self.span)
        for start in range(0, self.size, many):
            lengths = self.lengths[self.order[start : start + many]]
            buckets = (lengths[first : first + self.span] for first in range(0, len(lengths), self.span))
            sizes += [self._sizes(-np.sort(-bucket)) for bucket in buckets]
        return sizes

    def _sorted(self, bucket: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The samples of a bucket and their lengths, the longest first; in shuffled order where lengths are not known."""
        samples = self.order[bucket * self.span : (bucket + 1) * self.span]
        if self.lengths is None:
            return samples, None
        lengths = self.lengths[samples]
        longest_first = np.argsort(-lengths, kind="stable")
        return samples[longest_first], lengths[longest_first]

    def _sizes(self, lengths: np.ndarray | None) -> list[int]:
        """Samples of each batch of a bucket, in the order of `_sorted`."""
        assert self.budget is not None
        assert lengths is not None
        sizes, start, known = [], 0, lengths.tolist()
        while start < len(known):
            size = min(self.batch_size, int(self.budget // known[start]), len(known) - start)
            if size < self.world_size:
                break
            sizes.append(size)
            start += size
        return sizes

    def _shuffled(self, bucket: int, batches: Sequence) -> list:
        """The batches of a bucket in the order in which they are drawn."""
        rng = np.random.default_rng([*self.key, bucket])
        return [batches[index] for index in rng.permutation(len(batches))]

    def _cut(self, bucket: int) -> list[np.ndarray]:
        samples, lengths = self._sorted(bucket)
        if self.budget is None:
            count = int(self.firsts[bucket + 1] - self.firsts[bucket])
            batches = list(samples[: count * self.batch_size].reshape(count, self.batch_size))
            return batches if lengths is None else self._shuffled(bucket, batches)
        ends = np.cumsum(self._sizes(lengths))
        return self._shuffled(bucket, np.split(samples, ends)[: len(ends)])
