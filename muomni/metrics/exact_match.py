"""Exact match of short answers, and what it is compared with: an interval, and what always saying the same would score."""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

Z_95 = 1.959964


def percent(right: Sequence[bool]) -> float:
    """Share of True in percent; NaN for none."""
    return 100 * sum(right) / len(right) if right else float("nan")


def interval(right: Sequence[bool]) -> tuple[float, float]:
    """Wilson's 95 % interval of `percent` (Wilson 1927): low and high, in percent."""
    n = len(right)
    if not n:
        return float("nan"), float("nan")
    share = sum(right) / n
    centre = share + Z_95**2 / (2 * n)
    spread = Z_95 * math.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n * n))
    scale = 100 / (1 + Z_95**2 / n)
    return (centre - spread) * scale, (centre + spread) * scale


def majority(answers: Sequence[Hashable]) -> float:
    """Percent of the most common answer."""
    return 100 * Counter(answers).most_common(1)[0][1] / len(answers) if answers else float("nan")


def pairs_right(right: Sequence[bool], pairs: Sequence[Hashable | None]) -> float:
    """Percent of complementary pairs (one question, two images, two answers) with both right; NaN where there are none."""
    members: dict[Hashable, list[bool]] = defaultdict(list)
    for good, pair in zip(right, pairs, strict=True):
        if pair is not None:
            members[pair].append(good)
    return percent([all(each) for each in members.values() if len(each) > 1])
