"""The goals of goals.yaml, and how far a set of metrics is from them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

#: Reductions of several metrics to the value of a goal; "worst" depends on which way is better.
TAKE: dict[str, Callable[[Sequence[float], bool], float]] = {
    "itself": lambda values, lower: values[0],
    "worst": lambda values, lower: (max if lower else min)(values, key=lambda v: (math.isnan(v) == lower, v)),
    "sum": lambda values, lower: sum(values),
    "difference": lambda values, lower: values[0] - values[1],
    "ratio": lambda values, lower: 100 * values[0] / values[1] if values[1] else 0.0,
}
COLUMNS = ("quick", "demo", "full")
GOALS = Path(__file__).with_name("goals.yaml")


@dataclass(frozen=True)
class Goal:
    """What `take` makes of `metrics` should be at least (lower: at most) `targets[budget]`."""

    stage: str
    what: str
    metrics: tuple[str, ...]
    take: str
    lower: bool
    targets: Mapping[str, float]

    def value(self, metrics: Mapping[str, float]) -> float | None:
        """The measured value; None where a metric is missing."""
        if any(name not in metrics for name in self.metrics):
            return None
        return TAKE[self.take]([metrics[name] for name in self.metrics], self.lower)

    def badness(self, value: float) -> float:
        """The greater, the worse; infinite for what is no number."""
        return math.inf if math.isnan(value) else value if self.lower else -value

    def shortfall(self, value: float, column: str) -> float:
        """Distance to the target, in the metric's unit; 0 if it is reached, infinite for what is no number."""
        target = self.targets[column]
        if math.isnan(value):
            return math.inf
        return max(0.0, value - target if self.lower else target - value)


def read_goals(path: Path = GOALS) -> list[Goal]:
    """All goals. Raises ValueError naming an invalid goal."""
    goals = []
    for entry in yaml.safe_load(path.read_text()):
        take = entry.get("take", "itself")
        targets = {column: float(entry[column]) for column in COLUMNS if column in entry}
        if take not in TAKE or entry["better"] not in ("lower", "higher") or not targets:
            raise ValueError(f"{path}: goal {entry['what']!r}: take, better, or {' and '.join(COLUMNS)} make no sense")
        lower, metrics = entry["better"] == "lower", tuple(entry["metrics"])
        goals.append(Goal(entry["stage"], entry["what"], metrics, take=take, lower=lower, targets=targets))
    return goals
