"""Put averages that an optimizer keeps (`averages()`, muomni/optim/schedule_free.py) into the model, and take them out."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning import Trainer
from torch import Tensor

Weights = list[tuple[Tensor, Tensor]]


@torch.no_grad()
def put_averages(trainer: Trainer) -> Weights:
    """Returns (parameter, what it held): nothing for optimizers without averages."""
    found = [
        pair for optimizer in trainer.optimizers if hasattr(optimizer, "averages") for pair in optimizer.averages()
    ]
    before = [(parameter, parameter.detach().clone()) for parameter, _ in found]
    put(found)
    return before


@torch.no_grad()
def put(weights: Weights) -> None:
    """Set parameters to given values, bit for bit."""
    for parameter, value in weights:
        parameter.copy_(value)


@contextmanager
def averaged(trainer: Trainer) -> Iterator[None]:
    """The averages are in the model meanwhile."""
    before = put_averages(trainer)
    try:
        yield
    finally:
        put(before)
