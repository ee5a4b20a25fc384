"""A module from its description and its tensors, nothing being made before the two fit.

What a description asks for is first built on torch's meta device, which has shapes and no memory, and compared with what the
file holds; then the file's tensors become the module's own. So a few hundred bytes cannot ask for gigabytes, and an honest
export is loaded without drawing initial weights that are thrown away.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import muomni.models  # noqa: F401  (registers every module)
from muomni.checkpoints import schema
from muomni.models.registry import ARCHITECTURES, MissingPackage
from muomni.short_repr import shown


def first_broken(tensors: Mapping[str, Tensor]) -> str | None:
    """`KEY holds NaN=3, Inf=0` of the first tensor that is not finite; None where all are. One read of the device, unless
    there is one."""
    # A DTensor is told by its method: importing the class takes longer than all else that an answer needs.
    floating = {
        key: value.to_local() if hasattr(value, "to_local") else value
        for key, value in ((key, value.detach()) for key, value in tensors.items() if value.is_floating_point())
    }
    if not floating:
        return None
    sums = {key: value.sum(dtype=torch.float32) for key, value in floating.items()}
    device = next(iter(sums.values())).device
    finite = torch.stack([value.to(device) for value in sums.values()]).isfinite().tolist()
    for key, good in zip(floating, finite, strict=True):
        if not good:  # or a sum that overflowed
            nan, inf = int(floating[key].isnan().sum()), int(floating[key].isinf().sum())
            if nan or inf:
                return f"{key} holds NaN={nan}, Inf={inf}"
    return None


def assemble(description: Any, state: Mapping[str, Tensor], *, where: str, weights: str) -> nn.Module:
    """A module in eval mode from its description and its tensors. where, weights: of the two, for errors."""
    module = outline(description, tensors=len(state), where=where)
    own = module.state_dict()
    problem = difference(own, state)
    if problem is not None:
        raise ValueError(f"{weights}: {problem}")
    fitting = {key: _own_copy(state[key], own[key].dtype, name=f"{weights}: {key}") for key in own}
    broken = first_broken(fitting)
    if broken is not None:
        raise ValueError(f"{weights}: {broken}: the model is broken, train it again")
    tied: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        tied.setdefault(id(parameter), []).append(name)
    module.load_state_dict(fitting, assign=True)
    for first, *others in tied.values():
        for other in others:
            if not torch.equal(fitting[first], fitting[other]):
                raise ValueError(
                    f"{weights}: {first} and {other} are one tensor of this module, and differ in the file"
                )
            owner, _, leaf = other.rpartition(".")
            setattr(module.get_submodule(owner), leaf, module.get_parameter(first))
    left = [
        name for name, tensor in itertools.chain(module.named_parameters(), module.named_buffers()) if tensor.is_meta
    ]
    assert not left, f"{left[0]} is in no state dict: it must be made on an explicit device"
    return module.eval()


def _own_copy(value: Tensor, dtype: torch.dtype, *, name: str) -> Tensor:
    """A tensor of the file in memory of its own, in the module's dtype."""
    if value.dtype != dtype and not (value.is_floating_point() and dtype.is_floating_point):
        raise ValueError(f"{name} is of {value.dtype}, expected {dtype}")
    return value.detach().to(dtype).clone(memory_format=torch.contiguous_format)


SCALED = (Tensor.mul, Tensor.div, Tensor.__mul__, Tensor.__truediv__)


class _WithoutNumbers(TorchFunctionMode):
    """Initial weights are not drawn nor scaled: on the meta device there are none, and either imports torch's compiler there,
    which takes longer than all else of loading."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called for each function of torch: those of torch.nn.init, and a product with a number, give their tensor back."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if func in SCALED and isinstance(args[0], Tensor) and args[0].is_meta and isinstance(args[1], int | float):
            return args[0]
        return (torch.empty if func in (torch.rand, torch.randn) else func)(*args, **kwargs)


def outline(description: Any, *, tensors: int | None, where: str) -> nn.Module:
    """`build_part` on the meta device: shapes without numbers. tensors: how many the file holds of it."""
    with torch.device("meta"), _WithoutNumbers():
        return build_part(description, tensors=tensors, where=where)


def build_part(description: Any, *, where: str, tensors: int | None = None) -> nn.Module:
    """Build a module from its name and options, which are checked; `where` goes into the error."""
    kind = description.get("part") if isinstance(description, Mapping) else description
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise ValueError(f"{where}: unknown architecture {shown(kind)}; known: {', '.join(sorted(ARCHITECTURES))}")
    options = description.get("options", {}) if isinstance(description, Mapping) else {}
    if not isinstance(options, Mapping):
        raise ValueError(f"{where}: options do not fit {kind}: {shown(options)} is no table of them")
    schema.check_options(kind, options, tensors=tensors, where=where)
    try:
        return ARCHITECTURES[kind](**options)
    except MissingPackage as error:
        raise ValueError(f"{where}: {error}") from error
    except (TypeError, AttributeError, ZeroDivisionError, RuntimeError, OverflowError, ValueError) as error:
        raise ValueError(f"{where}: options do not fit {kind}: {' '.join(str(error).split())[:300]}") from error


def difference(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str | None:
    """The first keys of a state dict that are missing, surplus, or of another shape, in words; None where it fits."""
    missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or surplus:
        return f"missing keys {missing[:3]}, unexpected keys {surplus[:3]}"
    for key, value in own.items():
        if state[key].shape != value.shape:
            return f"{key} has shape {tuple(state[key].shape)}, expected {tuple(value.shape)}"
    return None


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Load a state dict whose keys and shapes must be the module's own; the first that differ are named."""
    problem = difference(module.state_dict(), state)
    if problem is not None:
        raise ValueError(f"{where}: {problem}")
    broken = first_broken(state)
    if broken is not None:
        raise ValueError(f"{where}: {broken}: the model is broken, train it again")
    module.load_state_dict(dict(state))
