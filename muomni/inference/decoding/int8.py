"""Weights of 8 bits in groups of 32 inputs that share a scale (packed_linear.py).

Close to llama.cpp's Q8_0, whose scale is that of the largest number rounded to half precision; here the largest number is -128
times the scale, which is the best of a few in bfloat16.

Shapes: N outputs, K inputs, P panels of WIDTH outputs, G groups of GROUP inputs.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from muomni.inference.decoding.packed_linear import OFFSET, PackedLinear, best_of, from_panels, to_panels

CANDIDATES = 4  # scales that are tried: more are better by less, and take longer


def pack(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight (N, K) -> panels uint8 (P, K / 4, WIDTH, 4) and scales bfloat16 (P, G, WIDTH), with zeros up to whole panels and
    groups."""
    return to_panels(weight, _quantize)


def unpack(panels: Tensor, scales: Tensor) -> Tensor:
    """What `pack` has kept, float32, with its zeros: (P * WIDTH, G * GROUP)."""
    return from_panels(panels.float() - OFFSET, scales)


def _quantize(groups: Tensor) -> tuple[Tensor, Tensor]:
    """groups (n, GROUP) -> numbers + OFFSET, uint8 (n, GROUP), and scales (n) that bfloat16 holds."""
    largest = groups.gather(1, groups.abs().argmax(dim=1, keepdim=True))
    bits = (largest / -OFFSET).view(torch.int32) >> 16  # bfloat16 is the upper half of float32

    def candidates() -> Iterator[tuple[Tensor, ...]]:
        for step in range(CANDIDATES):  # each the next in magnitude; the first lets the largest number overflow by one
            scale = ((bits + step) << 16).view(torch.float32)
            numbers = (groups / torch.where(scale == 0, 1.0, scale)).round_().clamp_(-OFFSET, OFFSET - 1)
            yield (groups - numbers * scale).square_().sum(dim=1, keepdim=True), numbers, scale

    _, numbers, scales = best_of(candidates())
    return (numbers + OFFSET).to(torch.uint8), scales[:, 0]


class Int8Linear(PackedLinear):
    """x @ weight.T for a weight (N, K) in `pack`'s form."""

    operator = "int8_linear"
    pack, unpack = staticmethod(pack), staticmethod(unpack)
