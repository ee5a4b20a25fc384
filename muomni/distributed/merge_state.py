"""What several processes gathered of a held-out split, as if one had: each took its own run of batches, in order."""

import copy
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor


def own_state(owner: object, names: Sequence[str]) -> dict[str, Any]:
    """The named attributes, tensors on the CPU, so that another process can take them."""
    return {name: _on_cpu(vars(owner)[name]) for name in names}


def joined_state(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The attributes of all processes, in their order: lists one behind the other, numbers and tensors (of counts) summed,
    the values of dicts, tuples and objects joined one by one."""
    return _joined(states)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        # A view is sent with all of what it is a view of: of one cell of a picture, its whole batch.
        return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()
    if isinstance(value, list):
        return [_on_cpu(each) for each in value]
    if isinstance(value, tuple):
        return tuple(_on_cpu(each) for each in value)
    if isinstance(value, dict):
        moved = copy.copy(value)
        moved.update({key: _on_cpu(each) for key, each in value.items()})
        return moved
    return value


def _joined(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, list):
        return list(chain(*values))
    if isinstance(first, dict):
        result = copy.copy(first)
        for key in dict.fromkeys(chain(*values)):
            result[key] = _joined([value[key] for value in values if key in value])
        return result
    if isinstance(first, tuple):
        return tuple(_joined(each) for each in zip(*values, strict=True))
    if isinstance(first, Tensor):
        return torch.stack(list(values)).sum(dim=0)
    if isinstance(first, int | float) and not isinstance(first, bool):
        return sum(values)
    if hasattr(first, "__dict__"):
        result = copy.copy(first)
        vars(result).update(_joined([vars(value) for value in values]))
        return result
    return values[-1]
