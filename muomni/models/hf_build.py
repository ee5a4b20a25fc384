"""A model of transformers from plain data: one of a few known classes and the fields of its configuration.

Only the fields that the class itself declares are accepted: none that names code, a file, or another implementation. The
model can be built on torch's meta device, where an export is compared with its tensors before anything is made of it
(checkpoints/assembly.py).
"""

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from muomni.models.registry import MissingPackage

MOST_NUMBER, MOST_LISTED = 1 << 20, 64
INSTALL = "pip install 'muomni[hf]'"


class _ConstantsOnCpu(TorchFunctionMode):
    """Tensors of given numbers are made on the CPU, whatever the default device is: transformers keeps strides and rotary
    frequencies in buffers that are in no state dict, which nothing would fill after a build on the meta device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.arange):
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


def transformers_class(name: str, *, module: str = "transformers") -> Any:
    """A class of transformers. Raises MissingPackage where it is not installed, or too old to have the class."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise MissingPackage(f"{name} of transformers is needed ({error}):  {INSTALL}") from error


def build_config(name: str, fields: Mapping[str, Any], *, also: tuple[str, ...] = ()) -> Any:
    """A configuration of the named class. also: fields that it accepts and does not declare. Raises ValueError naming a field
    that it does not have, or one whose value is out of bounds."""
    cls = transformers_class(name)
    declared = {*own_fields(cls), *also}
    for field, value in fields.items():
        if field not in declared:
            raise ValueError(f"config.{field} is no field of {name}; it has {', '.join(sorted(declared))}")
        check_value(field, value)
    try:
        return cls(**fields)
    except Exception as error:  # transformers' own classes of errors
        raise ValueError(f"config: {' '.join(str(error).split())[:300]}") from error


def own_fields(config_class: Any) -> set[str]:
    """The fields that a class of configurations declares itself."""
    return {name for name in vars(config_class).get("__annotations__", {}) if name not in ("model_type", "sub_configs")}


def check_value(field: str, value: Any) -> None:
    """Raise ValueError for a number, or a list, of a configuration that is out of bounds."""
    listed = list(value.values()) if isinstance(value, Mapping) else value
    if isinstance(listed, list | tuple):
        if len(listed) > MOST_LISTED:
            raise ValueError(f"config.{field} has {len(listed)} entries, at most {MOST_LISTED}")
        for each in listed:
            check_value(field, each)
    elif isinstance(value, int | float) and not abs(value) <= MOST_NUMBER:
        raise ValueError(f"config.{field}={value}: at most {MOST_NUMBER}")


def build_model(name: str, config: Any, *, module: str = "transformers", **options: Any) -> nn.Module:
    """A model of the named class, in eval mode, its weights drawn or (on the meta device) absent. module: of transformers, that
    has the class. options: of its constructor."""
    cls = transformers_class(name, module=module)
    with _ConstantsOnCpu():
        model: nn.Module = cls(config, **options)
    return model.eval()
