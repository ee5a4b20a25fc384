"""One held-out split, as a stage measures it."""

from typing import Any


def measure(stage: Any, *batches: Any, split: str = "test") -> dict[str, float]:
    """The metrics of batches."""
    stage.evaluator.reset(split)
    for batch in batches:
        stage.evaluator.update(batch)
    return stage.evaluator.compute()
