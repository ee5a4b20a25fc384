"""What an ONNX graph is: a module whose forward takes and returns tensors alone, and the name, axes and meaning of each of them.

The same list says what torch traces, what is checked afterwards, and what `model.json` tells a user.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

#: Sizes of axes that torch traces a graph with, and sizes that it is checked with: all differ, so that none is taken for another.
TRACED = {"batch": 2, "past": 5, "tokens": 3, "frames": 39, "samples": 4321, "slots": 7, "rows": 11, "characters": 13}
CHECKED = {"batch": 3, "past": 4, "tokens": 2, "frames": 26, "samples": 7777, "slots": 9, "rows": 5, "characters": 8}
DTYPES = {"float32": torch.float32, "int64": torch.int64}


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input or an output.

    axes: a size, or the name of an axis that may have any, or a sum of such names ("past + tokens"). about: what it holds.
    low, high: of whole numbers, those from `low` up to `high`, which is left out; high may be the name of an axis, whose size
    is then the largest.
    """

    name: str
    axes: tuple[int | str, ...]
    dtype: str = "float32"
    about: str = ""
    low: int = 0
    high: int | str = 1

    def shape(self, sizes: Mapping[str, int]) -> list[int]:
        """With the axes of these sizes."""
        return [_size(axis, sizes) for axis in self.axes]

    def example(self, sizes: Mapping[str, int], generator: torch.Generator) -> Tensor:
        """Random values of that shape."""
        shape = self.shape(sizes)
        if self.dtype == "float32":
            return torch.randn(shape, generator=generator)
        high = self.high if isinstance(self.high, int) else _size(self.high, sizes) + 1
        return torch.randint(self.low, high, shape, generator=generator)

    def described(self) -> dict[str, Any]:
        """As plain data, for model.json."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.axes), "about": self.about}


def _size(axis: int | str, sizes: Mapping[str, int]) -> int:
    return axis if isinstance(axis, int) else sum(sizes[name] for name in axis.split(" + "))


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A file of an ONNX folder: `<name>.onnx`.

    module: forward(*inputs) returns the outputs, a tuple, in these orders. about: what it computes. extra: what else a user has
    to know, as plain data. exact: its weights stay float32 whatever the user chooses. traced, checked: sizes of axes in place of
    those of `TRACED` and `CHECKED`. arrange: changes random inputs in place, to what a user could give.
    """

    name: str
    about: str
    module: nn.Module
    inputs: Sequence[Port]
    outputs: Sequence[Port]
    extra: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = False
    arrange: Callable[[Sequence[Tensor]], None] = lambda inputs: None
    traced: Mapping[str, int] = field(default_factory=dict)
    checked: Mapping[str, int] = field(default_factory=dict)

    def examples(self, sizes: Mapping[str, int]) -> tuple[Tensor, ...]:
        """Random inputs with the axes of these sizes."""
        generator = torch.Generator().manual_seed(0)
        inputs = tuple(port.example(sizes, generator) for port in self.inputs)
        self.arrange(inputs)
        return inputs

    def described(self) -> dict[str, Any]:
        """As plain data, for model.json."""
        ports = {"inputs": [port.described() for port in self.inputs]}
        ports["outputs"] = [port.described() for port in self.outputs]
        return {"file": f"{self.name}.onnx", "about": self.about, **ports, **self.extra}
