"""The order of samples: a pure function of (seed, epoch), with a position that a checkpoint keeps.

So a resumed run draws exactly the batches that an uninterrupted one would have drawn, with any number of workers and of
processes: batches and position are those of all processes together, and each process takes its share of every batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Sampler


@dataclass(frozen=True, slots=True)
class SampleIndex:
    """One draw of a sample; its augmentation is a function of (seed, epoch, index)."""

    index: int
    epoch: int


class ResumableBatchSampler(Sampler[list[SampleIndex]]):
    """Batches of a shuffled epoch: the share of one rank of several, every `ranks`-th sample of each batch.

    Args:
        size: number of samples. batch_size: of all ranks together. seed: of the order.
        lengths: samples of similar length share a batch: each `bucket` batches' worth of shuffled samples is sorted by
            length, cut, and the batches are shuffled again. None: no bucketing.
        budget: with lengths, the most that a batch may hold of them, padding included: `batch_size` is then its most
            samples, and a batch of long ones has fewer. None: every batch has `batch_size`.
        groups: lists of samples that stay together in a batch (pictures and their twins). None: each alone.
        first: True for samples that open the first epoch, in their own shuffled order: a curriculum. None: no such.
        rank, ranks: this process and how many there are. The last incomplete batch of an epoch is dropped; with a budget
            only if it has not a sample for each rank.
    """

    def __init__(
        self,
        size: int,
        *,
        batch_size: int,
        seed: int,
        lengths: np.ndarray | None = None,
        budget: int | None = None,
        groups: list[list[int]] | None = None,
        first: np.ndarray | None = None,
        rank: int = 0,
        ranks: int = 1,
        bucket: int = 50,
    ) -> None:
        if size < batch_size:
            raise ValueError(
                f"{size} training samples are fewer than one batch of {batch_size}: lower batch_size or add data"
            )
        if batch_size % ranks:
            raise ValueError(
                f"datamodule.batch_size={batch_size} counts all processes together, and {ranks} processes cannot share "
                f"it evenly: give a multiple of {ranks}"
            )
        if budget is not None:
            _check_budget(budget, lengths, first, ranks)
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.lengths, self.budget, self.groups, self.bucket = lengths, budget, groups, bucket
        self.first = first
        self.only: int | None = None
        """So many first batches of the first epoch again and again, with the same augmentation; None: all."""
        self.rank, self.ranks = rank, ranks
        self.epoch = 0
        self.consumed = 0
        """Samples of this epoch that training has used, over all ranks."""
        self._known: tuple[int, list[np.ndarray], np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.batches(self.epoch)[0])

    def batches(self, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """The batches of an epoch, each over all ranks, and how many samples are used with each."""
        if self.only is not None:
            epoch = 0
        if self._known is None or self._known[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = self._shuffled(epoch, rng)
            cut = (self._cut if self.budget is None else self._cut_by_budget)(epoch, order, rng)[: self.only]
            self._known = epoch, cut, np.cumsum([len(batch) for batch in cut])
        return self._known[1:]

    def _shuffled(self, epoch: int, rng: np.random.Generator) -> np.ndarray:
        """All samples of an epoch in order."""
        if self.groups is not None:
            order = _side_by_side([self.groups[g] for g in rng.permutation(len(self.groups))], self.batch_size)
        else:
            order = rng.permutation(self.size)
        if epoch == 0 and self.first is not None:
            order = np.concatenate([order[self.first[order]], order[~self.first[order]]])
        return order

    def _cut(self, epoch: int, order: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """Batches of `batch_size`, of similar lengths where these are known."""
        size = self.batch_size
        order = order[: len(order) // size * size]
        if self.lengths is None:
            return list(order.reshape(-1, size))
        opening = 0
        if epoch == 0 and self.first is not None:
            opening = int(self.first.sum()) // size * size
        batches: list[np.ndarray] = []
        for part in (order[:opening], order[opening:]):
            for start in range(0, len(part), size * self.bucket):
                piece = part[start : start + size * self.bucket]
                piece = piece[np.argsort(self.lengths[piece], kind="stable")].reshape(-1, size)
                batches += list(piece[rng.permutation(len(piece))])
        return batches

    def _cut_by_budget(self, epoch: int, order: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """Batches within the budget, the longest samples first; what does not fill a batch goes to the next piece."""
        assert self.lengths is not None
        assert self.budget is not None
        batches: list[np.ndarray] = []
        left = order[:0]
        span = self.batch_size * self.bucket
        for start in range(0, len(order), span):
            piece = np.concatenate([left, order[start : start + span]])
            piece = piece[np.argsort(-self.lengths[piece], kind="stable")]
            cut: list[np.ndarray] = []
            while len(piece):
                count = min(self.batch_size, int(self.budget // self.lengths[piece[0]]))
                if len(piece) < count:
                    break
                cut.append(piece[:count])
                piece = piece[count:]
            left = piece
            batches += [cut[i] for i in rng.permutation(len(cut))]
        return batches + ([left] if len(left) >= self.ranks else [])

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        epoch = self.epoch
        batches, ends = self.batches(epoch)
        for batch in batches[np.searchsorted(ends, self.consumed, side="right") :]:
            yield [
                SampleIndex(int(index), epoch if self.only is None else 0) for index in batch[self.rank :: self.ranks]
            ]

    def count_batch(self) -> None:
        """Training has used a batch on every rank."""
        _, ends = self.batches(self.epoch)
        self.consumed = int(ends[np.searchsorted(ends, self.consumed, side="right")])
        if self.consumed >= ends[-1]:
            self.epoch, self.consumed = self.epoch + 1, 0

    @property
    def curriculum_ends(self) -> bool:
        """Whether the next batch is the first that is not of the opening samples (`first`) alone."""
        if self.first is None or self.epoch:
            return False
        return self.consumed == int(self.first.sum()) // self.batch_size * self.batch_size

    def repeat(self, count: int) -> None:
        """Give the first `count` batches alone, again and again."""
        self.only, self._known = count, None

    def state_dict(self) -> dict[str, Any]:
        """Position: epoch and samples used in it."""
        return {"epoch": self.epoch, "consumed": self.consumed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a position that `state_dict` gave. One beyond the end, as where the data has fewer samples now, is the begin of
        the next epoch: an epoch without a batch would be followed by another for ever."""
        self.epoch, self.consumed = state["epoch"], state["consumed"]
        if self.consumed >= self.batches(self.epoch)[1][-1]:
            self.epoch, self.consumed = self.epoch + 1, 0


def _side_by_side(groups: list[list[int]], size: int) -> np.ndarray:
    """The members of groups in order, so that batches of `size` cut none: samples that are alone go two by two where twins
    fill a batch evenly; a group that does not fit into what is left of a batch waits for the next, and smaller ones go first.
    Where none is left to go first, groups are cut."""
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
    single: list[int] = []
    couples: list[list[int]] = []
    for group in groups:
        if len(group) == 1 and single:
            single.append(group[0])
            single = []
        elif len(group) == 1:
            single = list(group)
            couples.append(single)
        else:
            couples.append(group)
    if single:
        couples = [*(group for group in couples if group is not single), single]
    return couples


def _check_budget(budget: int, lengths: np.ndarray | None, first: np.ndarray | None, ranks: int) -> None:
    if lengths is None or first is not None:
        raise ValueError(
            "datamodule.batch_tokens needs batches of similar lengths: leave it null where rows are packed, where "
            "samples have one size, or where some open the first epoch"
        )
    longest = int(lengths.max())
    if budget < longest * ranks:
        raise ValueError(
            f"datamodule.batch_tokens={budget}: too few for the longest sample ({longest}) on each of {ranks} processes"
        )
