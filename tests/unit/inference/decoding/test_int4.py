"""Weights of 4 bits in groups, against what they stand for."""

import pytest
import torch
import torch.nn.functional as F

from muomni.inference.decoding.int4 import LEVELS, pack, unpack
from muomni.inference.decoding.packed_linear import GROUP


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize(("outputs", "inputs"), [(1, 1), (16, 32), (37, 24), (65, 129), (130, 577)])
def test_each_number_is_the_nearest_level_and_half_a_byte(outputs, inputs):
    weight = random(outputs, inputs)
    panels, scales = pack(weight)
    kept = unpack(panels, scales)
    assert kept.shape == (-(-outputs // 16) * 16, -(-inputs // 32) * 32)
    assert panels.dtype == torch.uint8 and panels.numel() * 2 == kept.numel()
    assert scales.dtype == torch.bfloat16 and scales.numel() * GROUP == kept.numel()
    assert not kept[outputs:].any()
    groups = F.pad(weight, (0, -inputs % GROUP)).view(outputs, -1, GROUP)
    error = (kept[:outputs].view_as(groups) - groups).abs()
    nearest = (groups[..., None] - scale_of(scales, outputs)[..., None] * torch.tensor(LEVELS)).abs().amin(3)
    # The scale is fitted after numbers are chosen, which moves the middle between two levels a little.
    assert (error <= nearest + 0.06 * groups.abs().amax(2, keepdim=True)).all()
    assert error.square().sum() <= 1.02 * nearest.square().sum()


def scale_of(scales, outputs):
    return scales.transpose(1, 2).flatten(0, 1)[:outputs, :, None].float()


def test_the_error_is_smaller_than_that_of_equal_steps():
    """llama.cpp's Q4_0 (18 bytes for 32 numbers, as here) and Q4_1 (20)."""
    groups = random(2000, GROUP)
    ours = (unpack(*pack(groups))[:2000] - groups).square().mean()
    largest = groups.gather(1, groups.abs().argmax(1, keepdim=True))
    step = largest / -8
    q4_0 = (groups / step + 8.5).floor().clamp(0, 15) - 8
    assert ours < 0.8 * (q4_0 * step.half().float() - groups).square().mean()
    low, high = groups.aminmax(dim=1, keepdim=True)
    step = (high - low) / 15
    q4_1 = ((groups - low) / step).round()
    assert ours < 0.95 * (q4_1 * step.half().float() + low.half().float() - groups).square().mean()


def test_zeros_stay_and_levels_are_kept_exactly():
    assert not unpack(*pack(torch.zeros(2, 40))).any()
    exact = torch.tensor(LEVELS).repeat(16, 4).float()
    for factor in (1.0, -(2.0**-20), 2.0**30):
        assert torch.equal(unpack(*pack(exact * factor)), exact * factor)
