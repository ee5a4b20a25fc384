"""Randomness of the world: one generator an item, and choices that know their probability.

An item's generator is seeded from blake2b(seed | split | stream | index): item i depends neither on how many items there
are, nor on workers, nor on the order in which they are made. A split belongs to the hash of an item's *content*.
"""

import hashlib
import math
import random
from collections.abc import Sequence
from typing import Any

VAL_SHARE, TEST_SHARE = 0.06, 0.12  # of all contents; the rest is train


def digest(*parts: object) -> int:
    """64 bits of blake2b over the parts, joined by "|"."""
    text = "|".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def item_rng(seed: int, split: str, stream: str, index: object) -> random.Random:
    """The generator of item `index` of (`split`, `stream`) in the world `seed`."""
    return random.Random(digest(seed, split, stream, index))


def content_split(seed: int, stream: str, content: object) -> str:
    """train | val | test, decided by the hash of the content alone."""
    share = digest(seed, "split", stream, content) / 2**64
    if share < TEST_SHARE:
        return "test"
    return "val" if share < TEST_SHARE + VAL_SHARE else "train"


class Choices:
    """Draws with a random generator and adds up the log-probability (nats) of what was drawn."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.logprob = 0.0

    def pick(self, options: Sequence[Any]) -> Any:
        """One of the options, all equally likely."""
        self.logprob -= math.log(len(options))
        return options[self.index(len(options))]

    def weighted(self, options: Sequence[Any], weights: Sequence[float]) -> Any:
        """One of the options; option i with probability weights[i] / sum(weights)."""
        index = self.weighted_index(weights)
        self.logprob += math.log(weights[index] / sum(weights))
        return options[index]

    def index(self, count: int) -> int:
        """An index below `count`; the one source of randomness of `pick` (a test enumerates by overriding it)."""
        return self.rng.randrange(count)

    def weighted_index(self, weights: Sequence[float]) -> int:
        """An index drawn by weight; the one source of randomness of `weighted`."""
        draw = self.rng.random() * sum(weights)
        for index, weight in enumerate(weights):
            draw -= weight
            if draw < 0:
                return index
        return len(weights) - 1
