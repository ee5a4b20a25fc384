"""Weights of 8 bits in groups, against what they stand for."""

import pytest
import torch
import torch.nn.functional as F

from muomni.inference.decoding.int8 import pack, unpack
from muomni.inference.decoding.packed_linear import GROUP

SHAPES = [(1, 1), (16, 32), (37, 24), (65, 129), (130, 577)]  # outputs, inputs


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_each_number_is_within_half_a_step_and_what_is_added_is_zero(outputs, inputs):
    weight = random(outputs, inputs)
    panels, scales = pack(weight)
    kept = unpack(panels, scales)
    assert panels.dtype == torch.uint8 and scales.dtype == torch.bfloat16
    assert kept.shape == (-(-outputs // 16) * 16, -(-inputs // 32) * 32)
    assert not kept[outputs:].any() and not kept[:, inputs:].any()
    groups = F.pad(weight, (0, -inputs % GROUP)).view(outputs, -1, GROUP)
    error = (kept[:outputs].view_as(groups) - groups).abs()
    # The largest number is about -128 steps: the step may be four of bfloat16's larger, the number cut by one.
    assert (error <= groups.abs().amax(2, keepdim=True) / 128 * 1.04).all()
    assert error.square().mean() <= (groups.abs().amax(2, keepdim=True) / 127).square().mean() / 12


def test_the_error_is_smaller_than_that_of_q8_0():
    groups = random(2000, GROUP)
    step = groups.abs().amax(1, keepdim=True) / 127
    theirs = (groups / step).round() * step.half().float() - groups
    assert (unpack(*pack(groups))[:2000] - groups).square().mean() < 0.9 * theirs.square().mean()


def test_zeros_stay_and_numbers_of_eight_bits_are_kept_exactly():
    assert not unpack(*pack(torch.zeros(2, 40))).any()
    exact = torch.randint(-127, 128, (16, 64), generator=torch.Generator().manual_seed(0)).float()
    exact[:, ::GROUP] = -128  # so that the scale is 1 or a power of two
    assert torch.equal(unpack(*pack(exact)), exact)
    assert torch.equal(unpack(*pack(exact * -(2.0**-20))), exact * -(2.0**-20))
