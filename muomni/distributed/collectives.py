"""Collectives of a training step: what the loss of this process' share of a batch needs to know of the others' shares.

DDP and FSDP2 average gradients over the processes. For these to be the gradients of the whole batch, whatever each share
holds, a mean over targets is this process' sum, times the world size, over the number of targets of all (`mean`). A loss
between samples needs the samples of all (`all_gather_cat`); statistics without a gradient are summed (`all_reduce_sum`).

All of it applies inside `synced_step()`, which a training step opens. Elsewhere, as in validation, where processes may have
different numbers of batches, the world size is 1 and the functions return their argument.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.nn.functional import all_gather

_synced = False


@contextmanager
def synced_step(synced: bool = True) -> Iterator[None]:
    """All processes are in this block at the same time and call the same collectives in the same order. False, within such a
    block: for what only some of them compute; the world size is 1 again."""
    global _synced
    before, _synced = _synced, synced
    try:
        yield
    finally:
        _synced = before


def num_processes() -> int:
    """How many processes the run has."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def world_size() -> int:
    """How many processes share the batch; 1 outside of `synced_step`."""
    return num_processes() if _synced else 1


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum over processes, without gradient."""
    if world_size() == 1:
        return x
    x = x.detach().clone()
    dist.all_reduce(x)
    return x


def mean(total: Tensor, number: Tensor, *, least: float = 1.0) -> Tensor:
    """This process' share of a mean over all: `total` is the sum of its terms, `number` how many there are (or their weight).
    The average over processes is the mean over all terms. least: 0 / 0 becomes 0 / least."""
    if world_size() == 1:
        return total / number.clamp(min=least)
    return total * world_size() / all_reduce_sum(number.float()).clamp(min=least)


def broadcast(x: Tensor) -> Tensor:
    """Rank 0's value, which has the shape of every rank's."""
    if world_size() == 1:
        return x
    x = x.detach().clone()
    dist.broadcast(x, src=0)
    return x


def all_gather_cat(x: Tensor) -> Tensor:
    """The rows of all ranks concatenated in their order, with gradient; other axes are zero-padded to the longest."""
    if world_size() == 1:
        return x
    size = torch.tensor(x.shape, device=x.device)
    sizes = [torch.empty_like(size) for _ in range(world_size())]
    dist.all_gather(sizes, size)
    largest = torch.stack(sizes).amax(dim=0)
    missing = (largest - size).flip(0).tolist()
    padded = F.pad(x, [each for gap in missing for each in (0, gap)]).contiguous()
    if x.requires_grad:
        shares = list(all_gather(padded))
    else:
        shares = [torch.empty_like(padded) for _ in range(world_size())]
        dist.all_gather(shares, padded)
    return torch.cat([share[: int(rows[0])] for share, rows in zip(shares, sizes, strict=True)])


def all_gather_object(value: object) -> list[object]:
    """A picklable value of every rank, in their order; in or out of `synced_step`."""
    if num_processes() == 1:
        return [value]
    values: list[object] = [None] * num_processes()
    dist.all_gather_object(values, value)
    return values
