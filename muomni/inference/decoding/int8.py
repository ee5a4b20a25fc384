"""Weights of 8 bits in groups of 32 inputs that share a scale, and the linear layer that multiplies by them.

On a CPU the product is a C++ operator (native/int8_linear.cpp), which rounds its input to 15 bits for each group and adds
integers; elsewhere the weights are widened first. Close to llama.cpp's Q8_0, whose scale is that of the largest number rounded to
half precision; here the largest number is -128 times the scale, which is the best of a few in bfloat16.

Shapes: N outputs, K inputs, P panels of WIDTH outputs, G groups of GROUP inputs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muomni.inference.decoding.native import library

WIDTH, GROUP = 16, 32  # as in native/int8_linear.cpp
OFFSET = 128  # of the numbers as they are kept, without sign
CANDIDATES = 4  # scales that are tried: more are better by less, and take longer
CHUNK = 1 << 12  # groups at a time, for the processor's cache


def pack(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight (N, K) -> panels uint8 (P, K / 4, WIDTH, 4) and scales bfloat16 (P, G, WIDTH), with zeros up to whole panels and
    groups."""
    padded = F.pad(weight.float(), (0, -weight.shape[1] % GROUP, 0, -weight.shape[0] % WIDTH))
    inputs = padded.shape[1]
    parts = [_quantize(groups) for groups in padded.view(-1, GROUP).split(CHUNK)]
    numbers, scales = (torch.cat(each) for each in zip(*parts, strict=True))
    panels = numbers.view(-1, WIDTH, inputs // 4, 4).transpose(1, 2).contiguous()
    return panels, scales.view(-1, WIDTH, inputs // GROUP).transpose(1, 2).contiguous()


def unpack(panels: Tensor, scales: Tensor) -> Tensor:
    """What `pack` has kept, float32, with its zeros: (P * WIDTH, G * GROUP)."""
    numbers = panels.transpose(1, 2).reshape(-1, scales.shape[1], GROUP).float() - OFFSET
    return (numbers * scales.transpose(1, 2).reshape(len(numbers), -1, 1).float()).flatten(1)


def _quantize(groups: Tensor) -> tuple[Tensor, Tensor]:
    """groups (n, GROUP) -> numbers + OFFSET, uint8 (n, GROUP), and scales bfloat16 (n)."""
    largest = groups.gather(1, groups.abs().argmax(dim=1, keepdim=True))
    bits = (largest / -OFFSET).view(torch.int32) >> 16  # bfloat16 is the upper half of float32
    found: tuple[Tensor, Tensor, Tensor] | None = None
    for step in range(CANDIDATES):  # each the next in magnitude; the first lets the largest number overflow by one
        scale = ((bits + step) << 16).view(torch.float32)
        numbers = (groups / torch.where(scale == 0, 1.0, scale)).round_().clamp_(-OFFSET, OFFSET - 1)
        error = (groups - numbers * scale).square_().sum(dim=1, keepdim=True)
        if found is None:
            found = error, numbers, scale
        else:
            better = error < found[0]
            found = tuple(torch.where(better, a, b) for a, b in zip((error, numbers, scale), found, strict=True))  # type: ignore[assignment]
    assert found is not None, "there are candidates"
    return (found[1] + OFFSET).to(torch.uint8), found[2][:, 0].to(torch.bfloat16)


class Int8Linear(nn.Module):
    """x @ weight.T for a weight (N, K) in `pack`'s form; the bias (N) stays as it is."""

    panels: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.num_outputs, self.num_inputs = weight.shape
        panels, scales = pack(weight.detach())
        self.register_buffer("panels", panels)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """x (..., K) -> (..., N) of its dtype."""
        if x.device.type == "cpu" and library.available():
            y = torch.ops.muomni.int8_linear(x.float().contiguous(), self.panels, self.scales, self.num_outputs).to(
                x.dtype
            )
        else:
            y = F.linear(x, self.weight().to(x.dtype))
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def weight(self) -> Tensor:
        """The rounded weight (N, K), float32."""
        return unpack(self.panels, self.scales)[: self.num_outputs, : self.num_inputs]
