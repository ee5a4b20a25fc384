"""Means over several batches whose losses are means over unlike numbers of targets.

A stage's `step` returns means, its `target_counts` the number of targets of each, from the batch alone. So a held-out
split has the loss that one batch of all of it would have, and the batches that share an optimizer step (accumulation) have
the gradient of the large batch: each loss is weighed by its share of the targets of the whole window.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from muomni.batch import Window
from muomni.distributed import collectives

#: What a loss is a mean over, where its stage does not say.
SAMPLES = "samples"
Losses = Mapping[str, Tensor]


def window_shares(window: Window, losses: Losses) -> dict[str, Tensor]:
    """For each loss of a batch its share of the targets of the window, over all ranks. They add up to 1 over the window;
    where it holds no target they are 0."""
    names = list(window.counts)
    counts = collectives.all_reduce_sum(torch.stack([window.counts[name] for name in names]))  # names, batches
    shares = counts[:, window.index] / counts.sum(dim=1).clamp(min=torch.finfo(counts.dtype).tiny)
    by_name = dict(zip(names, shares.unbind(), strict=True))
    return {name: by_name.get(name, by_name[SAMPLES]) for name in losses}


def split_means(batches: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, float]:
    """Each loss over all targets of a split. batches: the losses of each batch and their counts."""
    sums: dict[str, float] = {}
    totals: dict[str, float] = {}
    for losses, counts in batches:
        for name, loss in losses.items():
            count = float(counts.get(name, counts[SAMPLES]))
            sums[name] = sums.get(name, 0.0) + (float(loss) * count if count else 0.0)
            totals[name] = totals.get(name, 0.0) + count
    return {name: total / totals[name] if totals[name] else 0.0 for name, total in sums.items()}
