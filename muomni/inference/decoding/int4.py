"""Weights of 4 bits in groups of 32 inputs that share a scale (packed_linear.py); inputs are rounded to 15 bits.

A number stands for one of 16 levels, closer to each other around zero, where most weights are: those of llama.cpp's IQ4_NL
(QLoRA's NF4 is of this kind too, Dettmers et al. 2023, arXiv:2305.14314). The error is smaller than that of 16 equal steps in the
same bytes, and than that of equal steps from a minimum in a ninth more (docs/experiments/decoding.md).

Inputs of 8 bits would do for the error, but not for a server: a sum that other rows' company rounds differently would then move
logits by half a percent, where 15 bits move them by a ten-thousandth, and two requests' answers would depend on each other.

Shapes: N outputs, K inputs, P panels of WIDTH outputs, G groups of GROUP inputs.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from muomni.inference.decoding.packed_linear import OFFSET, PackedLinear, best_of, from_panels, to_panels

LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)  # as in native/packed_sums.h
#: The largest number of a group is the first or the last level times these: both are tried, and the best fit is kept.
STRETCHES = (0.9, 1.0, 1.1, 1.2)


def pack(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight (N, K) -> panels uint8 (P, K / 8, WIDTH, 4), the lower half of a byte for the first four inputs of eight, and scales
    bfloat16 (P, G, WIDTH)."""
    numbers, scales = to_panels(weight, _quantize)
    lower, upper = numbers.unflatten(1, (-1, 2)).unbind(2)
    return lower | upper << 4, scales


def unpack(panels: Tensor, scales: Tensor) -> Tensor:
    """What `pack` has kept, float32: (P * WIDTH, G * GROUP)."""
    numbers = torch.stack((panels & 15, panels >> 4), dim=2).flatten(1, 2)
    levels = torch.tensor(LEVELS, dtype=torch.float32, device=panels.device)
    return from_panels(levels[numbers.int()], scales)


def _quantize(groups: Tensor) -> tuple[Tensor, Tensor]:
    """groups (n, GROUP) -> numbers of LEVELS, uint8 (n, GROUP), and scales (n) with the least squared error for these numbers."""
    levels = torch.tensor(LEVELS, dtype=torch.float32)
    #: Of each integer + OFFSET: to look the number up takes a thirtieth of searching it among the levels.
    nearest = (torch.arange(-OFFSET, OFFSET)[:, None] - levels).abs().argmin(dim=1)
    values = levels[nearest]
    largest = groups.gather(1, groups.abs().argmax(dim=1, keepdim=True))

    def candidates() -> Iterator[tuple[Tensor, ...]]:
        for stretch in (stretch / end for end in (LEVELS[0], LEVELS[-1]) for stretch in STRETCHES):
            step = largest * stretch
            places = (groups / torch.where(step == 0, 1.0, step)).round_().clamp_(-OFFSET, OFFSET - 1)
            places = places.nan_to_num_().add_(OFFSET).to(torch.int32)  # what is not finite stays so by its scale
            fitted = values.index_select(0, places.flatten()).view_as(groups)
            product, square = (groups * fitted).sum(dim=1, keepdim=True), fitted.square().sum(dim=1, keepdim=True)
            yield -product.square() / square, places, product / square  # the first: error, less that of zeros

    _, places, scales = best_of(candidates())
    return nearest.to(torch.uint8).index_select(0, places.flatten()).view_as(places), scales[:, 0]


class Int4Linear(PackedLinear):
    """x @ weight.T for a weight (N, K) in `pack`'s form."""

    operator = "int4_linear"
    pack, unpack = staticmethod(pack), staticmethod(unpack)
