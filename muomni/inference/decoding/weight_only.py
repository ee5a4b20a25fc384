"""Weight-only quantization: linear layers with weights smaller than float32, or packed for products that stream through memory.

Decoding a single row reads every weight for two operations, so it is bound by memory bandwidth. Half precision reads half the
bytes, int8 a quarter; the arithmetic stays float32 on a CPU.

Shapes: M rows of activations, N outputs, K inputs, P panels of WIDTH outputs.
"""

import copy
import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.inference.decoding.native import library
from muomni.inference.validation import require_one_of

Model = TypeVar("Model", bound=nn.Module)
#: Name -> dtype of the weights.
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
}
WIDTH = 16  # float32 numbers in an AVX-512 register: outputs accumulated in parallel


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight (N, K) -> int8 (N, K) and float32 scales (N): symmetric, per output, by the row's absolute maximum."""
    scale = weight.float().abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / 127
    return (weight.float() / scale[:, None]).round().to(torch.int8), scale


class WeightOnlyLinear(nn.Module):
    """x @ weight.T for a weight (N, K) in half precision, or in int8 with a scale per output (N); the bias (N) stays as it
    is."""

    weight: Tensor
    scale: Tensor | None
    bias: Tensor | None

    def __init__(self, weight: Tensor, dtype: torch.dtype, bias: Tensor | None = None) -> None:
        super().__init__()
        stored, scale = quantize(weight.detach()) if dtype == torch.int8 else (weight.detach().to(dtype), None)
        self.register_buffer("weight", stored)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """x (..., K) -> (..., N) of its dtype."""
        y = self._product(x)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def _product(self, x: Tensor) -> Tensor:
        if self.scale is not None:
            return F.linear(x, self.weight.to(x.dtype)) * self.scale.to(x.dtype)
        if x.device.type == "cuda":  # tensor cores take half precision
            return F.linear(x.to(self.weight.dtype), self.weight).to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype))


class PackedLinear(nn.Module):
    """The same product for few rows, as a sum that compiles to one loop: panels (P, K, WIDTH) are read sequentially once, and
    multiplied into WIDTH sums that stay in one register."""

    panels: Tensor
    scale: Tensor | None
    bias: Tensor | None

    def __init__(self, weight: Tensor, scale: Tensor | None, bias: Tensor | None = None) -> None:
        super().__init__()
        self.num_outputs, K = weight.shape
        missing = -self.num_outputs % WIDTH
        padded = F.pad(weight.detach(), (0, 0, 0, missing))
        self.register_buffer("panels", padded.view(-1, WIDTH, K).transpose(1, 2).contiguous())
        self.register_buffer("scale", None if scale is None else F.pad(scale, (0, missing)))
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """x (..., K) float32 -> (..., N)."""
        rows = x.reshape(-1, 1, x.shape[-1], 1)  # M 1 K 1
        y = (rows * self.panels.float()).sum(dim=2).flatten(1)  # M P*WIDTH
        if self.scale is not None:
            y = y * self.scale
        y = y[:, : self.num_outputs]
        if self.bias is not None:
            y = y + self.bias
        return y.reshape(*x.shape[:-1], self.num_outputs)


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


def replace_linears(module: nn.Module, make: Callable[[nn.Module], nn.Module]) -> None:
    """Replace every linear layer inside the module by make(layer)."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear | WeightOnlyLinear):
            setattr(module, name, make(child))
        else:
            replace_linears(child, make)


def set_weight_dtype(module: nn.Module, dtype: str) -> None:
    """Convert the weights of a module's linear layers to a dtype of `DTYPES`, in place, for inference.

    Stacked experts (moe.py) stay as they are. Raises ValueError for an unknown name.
    """
    require_one_of("dtype", dtype, DTYPES)
    if dtype == "float32":
        return

    def make(layer: nn.Module) -> nn.Module:
        assert isinstance(layer, nn.Linear), "the weights are converted already"
        return WeightOnlyLinear(layer.weight, DTYPES[dtype], layer.bias)

    replace_linears(module, make)


def for_one_row(module: Model) -> Model:
    """What one row is computed by in a compiled step: on a CPU the module with linear layers that stream through memory (without
    the operators of `native/`: only its small weights, packed), else itself."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | WeightOnlyLinear)]
    if any(layer.weight.device.type != "cpu" for layer in layers):
        return module
    if not library.available():
        return pack_linears(module) if any(isinstance(layer, WeightOnlyLinear) for layer in layers) else module

    def make(layer: nn.Linear | WeightOnlyLinear) -> nn.Module:
        if isinstance(layer, WeightOnlyLinear) and layer.scale is not None:
            return PackedLinear(layer.weight, layer.scale, layer.bias)
        return StreamedLinear(layer.weight, layer.bias)

    return _copy(module, make, lambda layer: isinstance(layer, nn.Linear | WeightOnlyLinear))


def weight_dtype(module: nn.Module) -> str:
    """The name that `set_weight_dtype` was given."""
    dtypes = {layer.weight.dtype for layer in module.modules() if isinstance(layer, WeightOnlyLinear)}
    return next((name for name, dtype in DTYPES.items() if dtype in dtypes), "float32")


def for_several_rows(module: Model) -> Model:
    """What several rows are computed by in a compiled step: on a CPU the module with its float32 weights transposed."""

    def make(layer: nn.Linear | WeightOnlyLinear) -> nn.Module:
        return TransposedLinear(layer.weight, layer.bias)

    return _copy(module, make, lambda layer: isinstance(layer, nn.Linear) and layer.weight.device.type == "cpu")


def pack_linears(module: Model) -> Model:
    """A copy of a module with `PackedLinear` for its linear layers; all other weights are shared."""

    def make(layer: nn.Linear | WeightOnlyLinear) -> nn.Module:
        return PackedLinear(layer.weight, getattr(layer, "scale", None), layer.bias)

    return _copy(module, make, lambda layer: isinstance(layer, nn.Linear | WeightOnlyLinear))


def _copy(module: Model, make: Callable[[Any], nn.Module], wanted: Callable[[nn.Module], bool]) -> Model:
    """A copy of a module with make(layer) for the layers that are wanted; all other weights are shared."""
    shared = {id(tensor): tensor for tensor in itertools.chain(module.parameters(), module.buffers())}
    changed = {id(layer): make(layer) for layer in module.modules() if wanted(layer)}
    return copy.deepcopy(module, shared | changed)  # the memo: what it holds counts as copied already
