"""Distributions that hold the values of an option in the jobs of a sweep, for Optuna."""

from collections.abc import Sequence
from typing import Any


def is_numeric(distribution: Any) -> bool:
    """True for a distribution of numbers."""
    return hasattr(distribution, "low")


def distribution(values: Sequence[Any], *, log: bool) -> Any:
    """The narrowest distribution that holds the values."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        low, high = float(min(values)), float(max(values))
        return FloatDistribution(low, high, log=log and low > 0)
    return CategoricalDistribution(sorted({str(value) for value in values}))
