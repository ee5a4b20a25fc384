"""Weights that processes share (FSDP2) as whole tensors, and whole tensors as shards again; of one process, as they are."""

from collections.abc import Iterable

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def own_shards(values: Iterable[Tensor]) -> list[Tensor]:
    """The local shards: the whole tensor where it is not sharded."""
    return [value.to_local() if isinstance(value, DTensor) else value for value in values]


def whole(value: Tensor) -> Tensor:
    """The full tensor; a collective operation."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def like(value: Tensor, weight: Tensor) -> Tensor:
    """A full tensor on the device of the weight and sharded like it."""
    value = value.to(weight.device)
    if isinstance(weight, DTensor) and not isinstance(value, DTensor):
        return distribute_tensor(value, weight.device_mesh, weight.placements)
    return value
