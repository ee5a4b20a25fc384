"""CUDA graphs on a CPU: what runs while one is recorded is run again by `replay`, on the same memory and with the same numbers.

So a number that the host put into the step, a tensor that is not where it was, and reading the device while recording are found
as on a GPU: by wrong tokens, or by an error.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2")


class Graph:
    """In place of `torch.cuda.CUDAGraph`."""

    made: list["Graph"]  # of the context

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.replays = 0
        Graph.made.append(self)

    def replay(self) -> None:
        """Run the recorded operations again."""
        self.replays += 1
        with torch._C.DisableTorchFunction(), torch.no_grad():  # nothing here is the host's doing
            for function, arguments, options, before in self.calls:
                results = function(*arguments, **options)
                for old, new in zip(tree_leaves(before), tree_leaves(results), strict=True):
                    if isinstance(old, Tensor) and old.numel() and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class _Record(TorchDispatchMode):
    def __init__(self, graph: Graph, **_: Any) -> None:
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in READING:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing ({func})")
        out = func(*args, **(kwargs or {}))
        self.graph.calls.append((func, args, kwargs or {}, out))
        return out


@contextmanager
def recorded_graphs() -> Iterator[list[Graph]]:
    """Within it `torch.cuda` records such graphs; gives those that were made."""
    Graph.made = []
    stream = SimpleNamespace(wait_stream=lambda _: None)
    with mock.patch.multiple(
        torch.cuda, CUDAGraph=Graph, graph=_Record, Stream=lambda: stream, current_stream=lambda: stream,
        stream=lambda _: nullcontext(),
    ):  # fmt: skip
        yield Graph.made
