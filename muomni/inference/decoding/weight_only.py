"""Weight-only quantization: linear layers with weights smaller than float32, or read by products that stream through memory.

Decoding a single row reads every weight for two operations, so it is bound by memory bandwidth. Half precision reads half the
bytes, int8 (int8.py) a quarter, int4 (int4.py) a seventh; the arithmetic of half precision stays float32 on a CPU.

Shapes: N outputs, K inputs.
"""

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.inference.decoding.int4 import Int4Linear
from muomni.inference.decoding.int8 import Int8Linear
from muomni.inference.decoding.native import library
from muomni.inference.decoding.packed_linear import PackedLinear
from muomni.inference.validation import require_one_of

Model = TypeVar("Model", bound=nn.Module)
#: Name -> dtype of the weights, of those that torch's products take.
FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
#: Name -> the layer of those in groups.
PACKED: dict[str, type[PackedLinear]] = {"int8": Int8Linear, "int4": Int4Linear}
DTYPES = (*FLOATS, *PACKED)
FEW_ROWS = 16  # for which the operators are faster than the library's products


class HalfLinear(nn.Module):
    """x @ weight.T for a weight (N, K) in half precision; the bias (N) stays as it is."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, dtype: torch.dtype, bias: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().to(dtype))
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """x (..., K) -> (..., N) of its dtype."""
        if x.device.type == "cuda":  # tensor cores take half precision
            y = F.linear(x.to(self.weight.dtype), self.weight).to(x.dtype)
        else:
            y = F.linear(x, self.weight.to(x.dtype))
        return y if self.bias is None else y + self.bias.to(y.dtype)


class StreamedLinear(nn.Module):
    """The same product for few rows on a CPU by an operator of `native/`, from a weight (N, K) in float32 or half precision,
    which is shared: the library's products pack it or read it in blocks."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach())
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """x (..., K) float32 -> (..., N)."""
        y: Tensor = torch.ops.muomni.float_linear(x.contiguous(), self.weight)
        return y if self.bias is None else y + self.bias


class TransposedLinear(nn.Module):
    """The same product by a weight (K, N): MKL copies one of (N, K) into its own order at every call, which for a few rows takes
    longer than the product."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().t().contiguous())
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """x (..., K) -> (..., N)."""
        y = x @ self.weight
        return y if self.bias is None else y + self.bias


def replace_linears(module: nn.Module, make: Callable[[nn.Linear], nn.Module]) -> None:
    """Replace every linear layer inside the module by make(layer)."""
    for name, child in list(module.named_children()):
        assert not isinstance(child, HalfLinear | PackedLinear), "the weights are converted already"
        if isinstance(child, nn.Linear):
            setattr(module, name, make(child))
        else:
            replace_linears(child, make)


def set_weight_dtype(module: nn.Module, dtype: str) -> None:
    """Convert the weights of a module's linear layers to a dtype of `DTYPES`, in place, for inference.

    The `head` of int4 is int8: rounding decides about tokens there, and costs more than anywhere else (docs/decoding.md).
    Stacked experts (moe.py) stay as they are. Raises ValueError for an unknown name.
    """
    require_one_of("dtype", dtype, DTYPES)
    if dtype in PACKED:
        head, layers = getattr(module, "head", None), PACKED[dtype]
        replace_linears(module, lambda layer: (Int8Linear if layer is head else layers)(layer.weight, layer.bias))
    elif dtype != "float32":
        replace_linears(module, lambda layer: HalfLinear(layer.weight, FLOATS[dtype], layer.bias))


def weight_dtype(module: nn.Module) -> str:
    """The name that `set_weight_dtype` was given."""
    packed = {type(layer) for layer in module.modules() if isinstance(layer, PackedLinear)}
    for name in ("int4", "int8"):  # the former has a layer of the latter
        if PACKED[name] in packed:
            return name
    halves = (layer.weight.dtype for layer in module.modules() if isinstance(layer, HalfLinear))
    found = next(halves, torch.float32)
    return next(name for name, dtype in FLOATS.items() if dtype == found)


def for_few_rows(module: Model) -> Model:
    """What up to `FEW_ROWS` rows are computed by in a compiled step: on a CPU with the operators of `native/` the module with
    linear layers that stream through memory, else itself."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | HalfLinear)]
    if any(layer.weight.device.type != "cpu" for layer in layers) or not library.available():
        return module
    return _copy(module, layers, StreamedLinear)


def for_many_rows(module: Model) -> Model:
    """What more rows are computed by in a compiled step: on a CPU the module with its float32 weights transposed."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    return _copy(module, [layer for layer in layers if layer.weight.device.type == "cpu"], TransposedLinear)


def _copy(module: Model, layers: Sequence[nn.Module], make: Callable[[Tensor, Tensor | None], nn.Module]) -> Model:
    """A copy of a module with make(weight, bias) for some of its layers; all other weights are shared."""
    shared = {id(tensor): tensor for tensor in itertools.chain(module.parameters(), module.buffers())}
    changed = {id(layer): make(layer.weight, layer.bias) for layer in layers}  # type: ignore[arg-type]
    return copy.deepcopy(module, shared | changed)  # the memo: what it holds counts as copied already
