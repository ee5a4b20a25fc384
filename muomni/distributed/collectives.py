"""Several processes as one: what a training step needs to know of the others' shares of its batch.

Gradients are averaged over the ranks (DDP, FSDP2). So that they are those of the whole batch, whatever each share holds, a
mean over targets is this rank's sum, times the number of ranks, over the targets of all (`mean`); a loss between samples
sees those of all (`gathered`); averages that are no gradients are summed (`summed`).

All of it holds inside `together()`, which a training step opens. Elsewhere, as in validation, each process stands alone, and
the functions are the identity.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.nn.functional import all_gather

_together = False


@contextmanager
def together(whole: bool = True) -> Iterator[None]:
    """Every rank is in here at the same time, and calls the same functions in the same order. False, inside of it: what only
    some ranks compute, where each stands alone again."""
    global _together
    before, _together = _together, whole
    try:
        yield
    finally:
        _together = before


def world() -> int:
    """How many processes the run has."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def count() -> int:
    """How many ranks share the batch; 1 outside of `together`."""
    return world() if _together else 1


def summed(x: Tensor) -> Tensor:
    """The sum over ranks, without gradient."""
    if count() == 1:
        return x
    x = x.detach().clone()
    dist.all_reduce(x)
    return x


def mean(total: Tensor, number: Tensor, *, least: float = 1.0) -> Tensor:
    """This rank's part of a mean: `total` is the sum of its terms, `number` how many there are (or their weight). The
    average over ranks is the mean over all terms. least: 0 / 0 becomes 0 / least."""
    if count() == 1:
        return total / number.clamp(min=least)
    return total * count() / summed(number.float()).clamp(min=least)


def first(x: Tensor) -> Tensor:
    """Rank 0's value, which has the shape of every rank's."""
    if count() == 1:
        return x
    x = x.detach().clone()
    dist.broadcast(x, src=0)
    return x


def gathered(x: Tensor) -> Tensor:
    """The rows of all ranks, rank by rank, with gradient; other axes are padded by zeros to the largest."""
    if count() == 1:
        return x
    size = torch.tensor(x.shape, device=x.device)
    sizes = [torch.empty_like(size) for _ in range(count())]
    dist.all_gather(sizes, size)
    largest = torch.stack(sizes).amax(dim=0)
    missing = (largest - size).flip(0).tolist()
    padded = F.pad(x, [each for gap in missing for each in (0, gap)]).contiguous()
    if x.requires_grad:
        parts = list(all_gather(padded))
    else:
        parts = [torch.empty_like(padded) for _ in range(count())]
        dist.all_gather(parts, padded)
    return torch.cat([part[: int(rows[0])] for part, rows in zip(parts, sizes, strict=True)])


def joined(value: object) -> list[object]:
    """Any picklable value of every rank, in their order; in or out of `together`."""
    if world() == 1:
        return [value]
    values: list[object] = [None] * world()
    dist.all_gather_object(values, value)
    return values
