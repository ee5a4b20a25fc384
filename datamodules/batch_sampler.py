"""Batches of samples in an order that is a pure function of (seed, epoch), with a position that a checkpoint keeps.

So a resumed run draws exactly the batches that an uninterrupted one would have drawn, with any number of workers and of
processes: batches and position are those of all processes together, and each process takes its share of every batch.
"""

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from datamodules.bucketed_batches import BucketedBatches

Batches = list[np.ndarray] | BucketedBatches
LARGE = 1 << 22  # samples from which an epoch is computed a bucket at a time instead of as a whole


@dataclass(frozen=True, slots=True)
class SampleIndex:
    """A sample of an epoch; its augmentation is a function of (seed, epoch, index)."""

    index: int
    epoch: int


@dataclass(eq=False, repr=False)
class ResumableBatchSampler(Sampler[list[SampleIndex]]):
    """Batches of a shuffled epoch: the share of one process of several, every `world_size`-th sample of each batch.

    From `LARGE` samples on, without groups and curriculum, an epoch is never in memory (bucketed_batches.py), and a position
    is restored at once wherever it is. Below, order and batches are arrays; that order never changes between versions.

    Args:
        size: number of samples. batch_size: of all processes together. seed: of the order.
        lengths: samples of similar length share a batch: each `bucket` batches' worth of shuffled samples is sorted by
            length, cut, and the batches are shuffled again. None: no bucketing. lengths_in: those of an epoch, where they
            differ by epoch; `lengths` are then their bounds.
        budget: with lengths, the most that a batch may hold of them, padding included: `batch_size` is then its most
            samples, and a batch of long ones has fewer. None: every batch has `batch_size`.
        groups: lists of samples that stay together in a batch (images and their twins). None: each alone.
        curriculum: True for samples that come first in the first epoch, in their own shuffled order. None: no curriculum.
        rank, world_size: this process and how many there are. The last incomplete batch of an epoch is dropped; with a
            budget only if it has not a sample for each process.
    """

    size: int
    _: KW_ONLY
    batch_size: int
    seed: int
    lengths: np.ndarray | None = None
    lengths_in: Callable[[int], np.ndarray] | None = None
    budget: int | None = None
    groups: list[list[int]] | None = None
    curriculum: np.ndarray | None = None
    rank: int = 0
    world_size: int = 1
    bucket: int = 50

    def __post_init__(self) -> None:
        if self.size < self.batch_size:
            raise ValueError(
                f"{self.size} training samples are fewer than one batch of {self.batch_size}: lower batch_size or add data"
            )
        if self.batch_size % self.world_size:
            raise ValueError(
                f"datamodule.batch_size={self.batch_size} counts all processes together, and {self.world_size} processes "
                f"cannot share it evenly: give a multiple of {self.world_size}"
            )
        if self.budget is not None:
            _check_budget(self.budget, self.lengths, self.curriculum, self.world_size)
        self.overfit: int | None = None
        """So many first batches of the first epoch again and again, with the same augmentation; None: all."""
        self.epoch = 0
        self.consumed = 0  # samples of this epoch that training has used, over all processes
        self._known: tuple[int, Batches, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.batches(self.epoch)[0])

    def batches(self, epoch: int) -> tuple[Batches, np.ndarray]:
        """The batches of an epoch, each over all processes, and how many samples are used with each."""
        if self.overfit is not None:
            epoch = 0
        if self._known is None or self._known[0] != epoch:
            if self.lengths_in is not None:
                self.lengths = self.lengths_in(epoch)
            batches: Batches = self._large_epoch(epoch) if self.is_large else self._listed(epoch)
            if self.overfit is not None:
                batches = list(batches[: self.overfit])
            ends = batches.ends if isinstance(batches, BucketedBatches) else np.cumsum([len(each) for each in batches])
            self._known = epoch, batches, ends
        return self._known[1:]

    @property
    def is_large(self) -> bool:
        """Whether epochs are computed a bucket at a time."""
        return self.size >= LARGE and self.groups is None and self.curriculum is None

    def _large_epoch(self, epoch: int) -> BucketedBatches:
        return BucketedBatches(
            self.size,
            batch_size=self.batch_size,
            bucket=self.bucket,
            key=(self.seed, epoch),
            lengths=self.lengths,
            budget=self.budget,
            world_size=self.world_size,
        )

    def _listed(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, epoch])
        order = self._shuffled(epoch, rng)
        return (self._cut if self.budget is None else self._cut_by_budget)(epoch, order, rng)

    def _shuffled(self, epoch: int, rng: np.random.Generator) -> np.ndarray:
        if self.groups is not None:
            order = _side_by_side([self.groups[g] for g in rng.permutation(len(self.groups))], self.batch_size)
        else:
            order = rng.permutation(self.size)
        if epoch == 0 and self.curriculum is not None:
            order = np.concatenate([order[self.curriculum[order]], order[~self.curriculum[order]]])
        return order

    def _cut(self, epoch: int, order: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """Batches of `batch_size`, of similar lengths where these are known."""
        size = self.batch_size
        order = order[: len(order) // size * size]
        if self.lengths is None:
            return list(order.reshape(-1, size))
        first = 0 if epoch else self._curriculum_size
        batches: list[np.ndarray] = []
        for section in (order[:first], order[first:]):
            for start in range(0, len(section), size * self.bucket):
                bucket = section[start : start + size * self.bucket]
                bucket = bucket[np.argsort(self.lengths[bucket], kind="stable")].reshape(-1, size)
                batches += list(bucket[rng.permutation(len(bucket))])
        return batches

    @property
    def _curriculum_size(self) -> int:
        """Samples in batches of the curriculum alone."""
        return 0 if self.curriculum is None else int(self.curriculum.sum()) // self.batch_size * self.batch_size

    def _cut_by_budget(self, epoch: int, order: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """Batches within the budget, the longest samples first; what does not fill a batch goes to the next bucket."""
        assert self.lengths is not None
        assert self.budget is not None
        batches: list[np.ndarray] = []
        left = order[:0]
        span = self.batch_size * self.bucket
        for start in range(0, len(order), span):
            left = np.concatenate([left, order[start : start + span]])
            left = left[np.argsort(-self.lengths[left], kind="stable")]
            cut: list[np.ndarray] = []
            while len(left):
                count = min(self.batch_size, int(self.budget // self.lengths[left[0]]))
                if len(left) < count:
                    break
                cut.append(left[:count])
                left = left[count:]
            batches += [cut[i] for i in rng.permutation(len(cut))]
        return batches + ([left] if len(left) >= self.world_size else [])

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        epoch = self.epoch
        batches, ends = self.batches(epoch)
        drawn_in = epoch if self.overfit is None else 0
        for batch in batches[np.searchsorted(ends, self.consumed, side="right") :]:
            yield [SampleIndex(int(index), drawn_in) for index in batch[self.rank :: self.world_size]]

    def count_batch(self) -> None:
        """Training has used a batch on every process."""
        _, ends = self.batches(self.epoch)
        self.consumed = int(ends[np.searchsorted(ends, self.consumed, side="right")])
        if self.consumed >= ends[-1]:
            self.epoch, self.consumed = self.epoch + 1, 0

    @property
    def curriculum_ends(self) -> bool:
        """Whether the next batch is the first that is not of the curriculum alone."""
        return self.curriculum is not None and not self.epoch and self.consumed == self._curriculum_size

    def repeat(self, count: int) -> None:
        """Give the first `count` batches alone, again and again."""
        self.overfit, self._known = count, None

    def state_dict(self) -> dict[str, Any]:
        """Position: epoch and samples used in it."""
        return {"epoch": self.epoch, "consumed": self.consumed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a position of `state_dict`. One beyond the end, as where the data has fewer samples now, is the begin of the
        next epoch: an epoch without a batch would be followed by another forever."""
        self.epoch, self.consumed = state["epoch"], state["consumed"]
        if self.consumed >= self.batches(self.epoch)[1][-1]:
            self.epoch, self.consumed = self.epoch + 1, 0


def _side_by_side(groups: list[list[int]], size: int) -> np.ndarray:
    """The members of groups in order, so that no batch of `size` divides a group: single samples go two by two where twins
    fill a batch evenly; a group that does not fit into the rest of a batch waits for the next, and smaller ones go first.
    Where none is left to go first, groups are divided."""
    order: list[int] = []
    waiting: list[list[int]] = []
    for group in _couples(groups) if size % 2 == 0 else groups:
        if len(group) > size - len(order) % size:
            waiting.append(group)
            continue
        order += group
        while waiting and len(waiting[0]) <= size - len(order) % size:
            order += waiting.pop(0)
    return np.array([*order, *(index for group in waiting for index in group)])


def _couples(groups: list[list[int]]) -> list[list[int]]:
    """The groups in order, each of one sample together with the next such; a last one without is last of all."""
    singles = [group[0] for group in groups if len(group) == 1]
    pairs = {first: [first, second] for first, second in zip(singles[::2], singles[1::2], strict=False)}
    together = [group if len(group) > 1 else pairs[group[0]] for group in groups if len(group) > 1 or group[0] in pairs]
    return together + ([singles[-1:]] if len(singles) % 2 else [])


def _check_budget(budget: int, lengths: np.ndarray | None, curriculum: np.ndarray | None, world_size: int) -> None:
    if lengths is None or curriculum is not None:
        raise ValueError(
            "datamodule.batch_tokens needs batches of similar lengths: leave it null where rows are packed, where "
            "samples have one size, or where some open the first epoch"
        )
    longest = int(lengths.max())
    if budget < longest * world_size:
        raise ValueError(
            f"datamodule.batch_tokens={budget}: too few for the longest sample ({longest}) on each of {world_size} processes"
        )
