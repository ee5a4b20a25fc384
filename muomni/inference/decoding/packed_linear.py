"""Linear layers with weights of a few bits, in groups of 32 inputs that share a scale (int8.py, int4.py).

On a CPU the product is a C++ operator (native/packed_linear.cpp), which rounds its input to 15 bits in each group and adds
integers; elsewhere the weights are widened first. A weight is kept as panels of 16 outputs, read front to back.

Shapes: N outputs, K inputs, P panels of WIDTH outputs, G groups of GROUP inputs, n groups of a chunk.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.inference.decoding.native import library

WIDTH, GROUP = 16, 32  # as in native/
OFFSET = 128  # of a number of 8 bits as the instructions take it, without sign
CHUNK = 1 << 12  # groups at a time, for the processor's cache
#: Groups (n, GROUP) -> numbers uint8 (n, GROUP), scales (n) of which bfloat16 is kept.
Quantize = Callable[[Tensor], tuple[Tensor, Tensor]]


def to_panels(weight: Tensor, quantize: Quantize) -> tuple[Tensor, Tensor]:
    """weight (N, K) -> numbers uint8 (P, K / 4, WIDTH, 4) and scales bfloat16 (P, G, WIDTH), of a weight with zeros up to whole
    panels and groups."""
    padded = F.pad(weight.float(), (0, -weight.shape[1] % GROUP, 0, -weight.shape[0] % WIDTH))
    inputs = padded.shape[1]
    parts = [quantize(groups) for groups in padded.view(-1, GROUP).split(CHUNK)]
    numbers, scales = (torch.cat(each) for each in zip(*parts, strict=True))
    panels = numbers.view(-1, WIDTH, inputs // 4, 4).transpose(1, 2).contiguous()
    return panels, scales.to(torch.bfloat16).view(-1, WIDTH, inputs // GROUP).transpose(1, 2).contiguous()


def from_panels(values: Tensor, scales: Tensor) -> Tensor:
    """What the numbers of `to_panels` stand for, float32 (P, K / 4, WIDTH, 4), by their scales: (P * WIDTH, G * GROUP)."""
    groups = values.transpose(1, 2).reshape(-1, scales.shape[1], GROUP)
    return (groups * scales.transpose(1, 2).reshape(len(groups), -1, 1).float()).flatten(1)


def best_of(candidates: Iterator[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Of each group (n) the candidate with the smallest error, the first of equal ones: tensors (n, 1) or (n, GROUP), the error
    before all others."""
    best = next(candidates)
    for other in candidates:
        better = other[0] < best[0]
        best = tuple(torch.where(better, a, b) for a, b in zip(other, best, strict=True))
    return best


class PackedLinear(nn.Module, ABC):
    """x @ weight.T for a weight (N, K) in the form of a subclass; the bias (N) stays as it is."""

    operator: str  # of torch.ops.muomni
    panels: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.num_outputs, self.num_inputs = weight.shape
        panels, scales = self.pack(weight.detach())
        self.register_buffer("panels", panels)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", None if bias is None else bias.detach())

    @staticmethod
    @abstractmethod
    def pack(weight: Tensor) -> tuple[Tensor, Tensor]:
        """weight (N, K) -> panels uint8 and scales bfloat16, as the operator reads them."""

    @staticmethod
    @abstractmethod
    def unpack(panels: Tensor, scales: Tensor) -> Tensor:
        """What `pack` has kept, float32, with what was added: (P * WIDTH, G * GROUP)."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., K) -> (..., N) of its dtype."""
        if x.device.type == "cpu" and library.available():
            multiply = getattr(torch.ops.muomni, self.operator)
            y = multiply(x.float().contiguous(), self.panels, self.scales, self.num_outputs).to(x.dtype)
        else:
            y = F.linear(x, self.weight().to(x.dtype))
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def weight(self) -> Tensor:
        """The rounded weight (N, K), float32."""
        return self.unpack(self.panels, self.scales)[: self.num_outputs, : self.num_inputs]
