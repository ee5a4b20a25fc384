"""Several training sets: how often a row of each is drawn in an epoch, and weights where the command gives none."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from datamodules.check.finding import Finding, Setting, Severity
from datamodules.check.plan import Plan, Source
from datamodules.check.topic import Entry, Topic

OFTEN = 10  # times an epoch from which a set is said to be drawn often


class Mixing(Topic):
    """Counts the samples of each set; documents, which are cut into samples of one length, by their characters."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.size: Counter[str] = Counter()

    def add(self, entry: Entry) -> None:
        if self.plan.pooled(entry.source):
            self.size[entry.source.of_set] += sum(map(len, entry.texts)) if self.plan.shape == "text" else 1

    def _times(self, name: str) -> float:
        """How often each sample of a set is drawn in an epoch; 0 where there is none, or no weight."""
        return self.plan.shares[name] * self.size.total() / self.size[name] if self.size[name] else 0.0

    def findings(self) -> Iterator[Finding]:
        for source in self.plan.trained:
            if source.of_set and self._times(source.of_set) > OFTEN:
                yield Finding(
                    severity=Severity.NOTE,
                    check="drawn-often",
                    split=source.name,
                    what=f"{self._times(source.of_set):.0f} times an epoch each of its samples is drawn, by its weight of "
                    f"{self.plan.shares[source.of_set]:.3g}",
                    remedy="a smaller weight, unless it is meant",
                )

    def settings(self) -> Iterator[Setting]:
        if (
            self.plan.shares
            and not any(self.plan.shares.values())
            and all(self.size[name] for name in self.plan.shares)
        ):
            weights = ", ".join(f"{name}: {self.size[name] / self.size.total():.2g}" for name in self.plan.shares)
            yield Setting(option="data.mixture", value=f"{{{weights}}}", why="sets need weights; these are their sizes")

    def numbers(self, source: Source) -> dict[str, Any]:
        if not self.plan.pooled(source) or not self._times(source.of_set):
            return {}
        return {
            "weight": round(self.plan.shares[source.of_set], 4),
            "drawn an epoch": round(self._times(source.of_set), 3),
        }
