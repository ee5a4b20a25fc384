"""The order of samples: a pure function of (seed, epoch), with a position that a checkpoint keeps.

So a resumed run draws exactly the batches that an uninterrupted one would have drawn, with any number of workers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Sampler


@dataclass(frozen=True, slots=True)
class Draw:
    """One draw of a sample; its augmentation is a function of (seed, epoch, index)."""

    index: int
    epoch: int


class BatchOrder(Sampler[list[Draw]]):
    """Batches of a shuffled epoch, for one rank of several.

    Args:
        size: number of samples. batch_size: of one rank. seed: of the order.
        lengths: samples of similar length share a batch: each `bucket` batches' worth of shuffled samples is sorted by
            length, cut, and the batches are shuffled again. None: no bucketing.
        groups: lists of samples that stay together in a batch (pictures and their twins). None: each alone.
        first: True for samples that open the first epoch, in their own shuffled order: a curriculum. None: no such.
        rank, ranks: this process and how many there are. The last incomplete round of batches is dropped.
    """

    def __init__(
        self,
        size: int,
        *,
        batch_size: int,
        seed: int,
        lengths: np.ndarray | None = None,
        groups: list[list[int]] | None = None,
        first: np.ndarray | None = None,
        rank: int = 0,
        ranks: int = 1,
        bucket: int = 50,
    ) -> None:
        if size < batch_size * ranks:
            raise ValueError(
                f"{size} training samples are fewer than one batch of {batch_size} x {ranks} processes: "
                "lower batch_size or add data"
            )
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.lengths, self.groups, self.bucket = lengths, groups, bucket
        self.first = first
        self.rank, self.ranks = rank, ranks
        self.epoch = 0
        self.consumed = 0
        """Samples of this epoch that training has used, over all ranks."""

    def __len__(self) -> int:
        return self.size // (self.batch_size * self.ranks)

    def epoch_order(self, epoch: int) -> np.ndarray:
        """All samples of an epoch in order, over all ranks."""
        rng = np.random.default_rng([self.seed, epoch])
        if self.groups is not None:
            order = np.array([i for g in rng.permutation(len(self.groups)) for i in self.groups[g]])
        else:
            order = rng.permutation(self.size)
        span = self.batch_size * self.ranks
        opening = 0
        if epoch == 0 and self.first is not None:
            order = np.concatenate([order[self.first[order]], order[~self.first[order]]])
            opening = int(self.first.sum()) // span * span
        if self.lengths is None:
            return order
        order = order[: len(self) * span]
        pieces = []
        for part in (order[:opening], order[opening:]):
            for start in range(0, len(part), span * self.bucket):
                piece = part[start : start + span * self.bucket]
                piece = piece[np.argsort(self.lengths[piece], kind="stable")].reshape(-1, span)
                pieces.append(piece[rng.permutation(len(piece))])
        return np.concatenate(pieces).reshape(-1)

    def __iter__(self) -> Iterator[list[Draw]]:
        span = self.batch_size * self.ranks
        order = self.epoch_order(self.epoch)[: len(self) * span]
        epoch = self.epoch
        for start in range(self.consumed, len(order), span):
            own = order[start : start + span][self.rank * self.batch_size : (self.rank + 1) * self.batch_size]
            yield [Draw(int(index), epoch) for index in own]

    def count_batch(self) -> None:
        """Training has used a batch on every rank."""
        self.consumed += self.batch_size * self.ranks
        if self.consumed >= len(self) * self.batch_size * self.ranks:
            self.epoch, self.consumed = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Position: epoch and samples used in it."""
        return {"epoch": self.epoch, "consumed": self.consumed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a position that `state_dict` gave."""
        self.epoch, self.consumed = state["epoch"], state["consumed"]
