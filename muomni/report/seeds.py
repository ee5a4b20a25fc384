"""Runs of the same setting with several seeds: mean, spread and number, and which differences are larger than the spread.

The spread is max - min over the seeds. It is stated only of two seeds or more, and compared as it is: a difference of two means
counts as larger if it exceeds the larger spread of the two.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from muomni.report.runs import SEEDS, Run, differences
from muomni.report.tables import number


@dataclass(frozen=True)
class Summary:
    """Values of a metric over seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def spread(self) -> float | None:
        return max(self.values) - min(self.values) if self.n > 1 else None

    @property
    def text(self) -> str:
        """The mean, with digits enough for its spread, which follows with the number of values."""
        if not math.isfinite(self.mean):
            return f"{number(self.mean)} (n={self.n})"
        if not self.spread:
            return number(self.mean) + ("" if self.spread is None else f" (spread 0, n={self.n})")
        decimals = max(2, 1 - math.floor(math.log10(self.spread)))
        return f"{self.mean:.{decimals}f} (spread {number(self.spread)}, n={self.n})"

    def differs_from(self, other: "Summary") -> bool | None:
        """Whether the means differ by more than the spread; None where neither has a spread, or one is no number."""
        if not math.isfinite(self.mean - other.mean):
            return None
        spreads = [each.spread for each in (self, other) if each.spread is not None]
        return abs(self.mean - other.mean) > max(spreads) if spreads else None


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seed alone. label: what sets it apart from the other groups."""

    label: str
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> list[Any]:
        return [run.seed for run in self.runs]

    def summary(self, metric: str) -> Summary | None:
        """A metric over the runs that have it; None if none has."""
        values = tuple(float(run.metrics[metric]) for run in self.runs if metric in run.metrics)
        return Summary(values) if values else None


def group_by_seed(runs: Sequence[Run]) -> list[Group]:
    """Runs in groups of one setting, in the order in which they come. A seed that was trained again is of another group: two
    runs of one seed are no sample of two."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        again = sum((run.stage, run.setting, run.seed) == (each.stage, each.setting, each.seed)
                    for group in groups.values() for each in group)  # fmt: skip
        groups.setdefault((run.stage, run.setting, again), []).append(run)
    found = list(groups.values())
    return [
        Group(label, tuple(each)) for label, each in zip(labels_of([each[0] for each in found]), found, strict=True)
    ]


def labels_of(runs: Sequence[Run], *, most: int = 3) -> list[str]:
    """A short name for each run: the options in which it differs from the others, or its folder."""
    settings = [{key: value for key, value in run.options.items() if key not in SEEDS} for run in runs]
    differing = differences(settings)
    keys = sorted(differing, key=lambda key: (-len({repr(value) for value in differing[key]}), len(key)))[:most]
    written = {key: key if key.endswith((".name", ".kind")) else key.rpartition(".")[2] for key in keys}
    names = []
    for index in range(len(runs)):
        values = {key: "null" if (value := differing[key][index]) is None else value for key in sorted(keys)}
        names.append(", ".join(f"{written[key]}={value}" for key, value in values.items()))
    if not keys or len(set(names)) < len(names):
        return ["/".join(run.folder.resolve().parts[-2:]) for run in runs]
    return names
