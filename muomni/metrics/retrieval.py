"""Retrieval among a fixed number of candidates.

Legend: N items, C candidates.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Item = dict[str, Any]


def recall_at_1(similarity: Tensor, *, equal: Tensor | None = None) -> tuple[float, float]:
    """similarity (N, N), row an image, column a caption, pairs on the diagonal -> percent of images whose best caption
    is their own, and of captions whose best image is.

    equal: (N, N) bool, True where image and caption are as right as a pair, since captions or images are the same; None:
    `equals_of` the similarities.
    """
    right = _right(similarity, equals_of(similarity) if equal is None else equal)
    return 100 * right[0].float().mean().item(), 100 * right[1].float().mean().item()


def _right(similarity: Tensor, equal: Tensor) -> tuple[Tensor, Tensor]:
    """(N) bool each: whether an image's best caption is right, and a caption's best image."""
    captions, images = similarity.argmax(dim=1), similarity.argmax(dim=0)
    return equal.gather(1, captions[:, None])[:, 0], equal.gather(0, images[None])[0]


def equals_of(similarity: Tensor) -> Tensor:
    """(N, N) bool: the diagonal, and pairs with a caption or an image whose similarities (N, N) to all others are the same,
    as those of equal ones must be. A model that tells nothing apart tells nothing of what is equal: the diagonal alone."""
    similarity = similarity.detach()
    equal = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    for dim in (0, 1):
        keys = torch.unique(similarity, dim=dim, return_inverse=True)[1]
        if bool((keys != keys[0]).any()):
            equal = equal | (keys[:, None] == keys)
    return equal


class Retrieval:
    """Recall at 1 of the pairs of a split, each among the same number of candidates, whatever batches they come in.

    A pool is a run of `candidates` neighbouring pairs. Pairs of one group (an image and its twin) are ranked in the same
    pool: where one would be cut it only stands by in this pool, and is ranked in the next. The last pool reaches back, to pairs
    that were ranked already.

    Args:
        candidates: C; of a smaller split all, as `size` says.
        compare: items -> similarity (C, C) and equal (C, C) bool, as in `recall_at_1`. An item's "group" says what
            stays together.
    """

    def __init__(self, candidates: int, compare: Callable[[Sequence[Item]], tuple[Tensor, Tensor]]) -> None:
        self.candidates, self.compare = candidates, compare
        self.items: list[Item] = []
        self.ranked = 0
        """How many of `items` were ranked; they are kept as candidates of the last pool."""
        self.right: list[tuple[bool, bool]] = []
        self.size = 0

    def add(self, items: Sequence[Item]) -> None:
        """The next pairs of the split; ranks what fills a pool."""
        self.items += items
        while len(self.items) - self.ranked > self.candidates:  # one more: is the last one's twin in the pool?
            end = self.ranked + self.candidates
            until = end
            while until > self.ranked and self.items[until - 1]["group"] == self.items[end]["group"]:
                until -= 1
            self._rank(self.ranked, end, until if until > self.ranked else end)

    def finish(self) -> tuple[float, float]:
        """Percent of images whose best caption is right, and of captions whose best image is, in the whole split."""
        if self.ranked < len(self.items):
            self._rank(max(0, len(self.items) - self.candidates), len(self.items), len(self.items))
        return tuple(100 * sum(each) / len(self.right) for each in zip(*self.right, strict=True))

    def _rank(self, start: int, end: int, until: int) -> None:
        """Rank the pairs from `ranked` to `until` in the pool of those from `start` to `end`."""
        similarity, equal = self.compare(self.items[start:end])
        right = [each.tolist()[self.ranked - start : until - start] for each in _right(similarity, equal)]
        self.right += list(zip(*right, strict=True))
        self.size = max(self.size, end - start)
        kept = max(0, until - self.candidates)
        self.items, self.ranked = self.items[kept:], until - kept
