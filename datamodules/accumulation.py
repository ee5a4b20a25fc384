"""Batches that share an optimizer step (`trainer.accumulate_grad_batches`), each with what the whole step holds.

A loss of a step is a mean over the targets of all its batches. How many these are must be known before the first backward
pass, so the batches of a step are read ahead; where an epoch or the trainer's limit ends, the last step has fewer of them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from muomni.batch import Window


@dataclass(frozen=True, slots=True)
class Windows:
    """size: batches a step. limit: batches of an epoch. done: how many of them are over when an iteration begins.
    count: batch -> over how many targets each loss is a mean."""

    size: int
    limit: float
    done: Callable[[], int]
    count: Callable[[Any], Mapping[str, Any]]

    def over(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches, each with its `window`."""
        done, window = self.done(), list[Any]()
        for batch in batches:
            window.append(batch)
            done += 1
            if done % self.size == 0 or done == self.limit:
                yield from self._marked(window)
                window = []
        yield from self._marked(window)

    def _marked(self, window: list[Any]) -> list[Any]:
        counts = [{name: torch.as_tensor(x) for name, x in self.count(batch).items()} for batch in window]
        for index, batch in enumerate(window):
            if hasattr(type(batch), "window"):  # another type of batch goes without: its step is a mean of means
                together = {name: torch.stack([each[name] for each in counts]).float() for name in counts[0]}
                batch.window = Window(together, index)
        return window


def windows_of(trainer: Any, *, batches: int) -> Windows | None:
    """Where several batches share an optimizer step of a trainer, those; else None. batches: of an epoch."""
    if trainer is None or trainer.accumulate_grad_batches == 1:
        return None
    most = limit_batches(batches, trainer.limit_train_batches)

    def done() -> int:
        """Batches of this epoch that are over; none where Lightning is about to begin another."""
        ready: int = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return ready if ready < most else 0

    return Windows(trainer.accumulate_grad_batches, most, done, trainer.lightning_module.counts)


def limit_batches(count: int, limit: float) -> int:
    """Lightning's limits: so many of `count` batches, or a share of them."""
    return min(count, limit) if isinstance(limit, int) else max(1, int(count * limit))
