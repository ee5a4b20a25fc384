"""Weights of 8 bits in groups, against what they stand for; the operator on each set of instructions that this machine has."""

import ctypes

import pytest
import torch
import torch.nn.functional as F

from muomni.inference.decoding import int8
from muomni.inference.decoding.int8 import GROUP, Int8Linear, pack, unpack
from muomni.inference.decoding.native import library

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


def check_products(int8_linear):
    for outputs, inputs in SHAPES:
        weight = random(outputs, inputs)
        panels, scales = pack(weight)
        kept = unpack(panels, scales)[:outputs, :inputs].double()
        for rows in (1, 2, 3, 4, 5, 6, 7, 8, 9, 17):
            x = random(rows, inputs)
            got, expected = int8_linear(x, panels, scales, outputs).double(), F.linear(x.double(), kept)
            assert got.shape == expected.shape
            assert (got - expected).norm() <= 1e-4 * (x.double().norm(dim=1)[:, None] * kept.norm(dim=1)).norm()


@pytest.fixture(scope="module")
def int8_linear():
    if not library.available():
        pytest.skip("no C++ compiler")
    return torch.ops.muomni.int8_linear


def test_the_operator_multiplies_by_the_weights_that_are_kept(int8_linear):
    check_products(int8_linear)


@pytest.mark.slow  # a compiler
@pytest.mark.parametrize("level", library.LEVELS)
def test_every_level_of_this_machine_computes_the_same_bits(level, tmp_path, int8_linear):
    """Integers are exact: only float32 sums of groups are, and these have one order."""
    if not library.has(level):
        pytest.skip(f"this processor has no {level}")
    library.build(tmp_path / "operators.so", level, namespace=f"muomni_int8_{level}")
    ctypes.CDLL(str(tmp_path / "operators.so"))
    operator = getattr(torch.ops, f"muomni_int8_{level}").int8_linear
    check_products(operator)
    panels, scales = pack(random(40, 320))
    x = random(9, 320)
    torch.testing.assert_close(
        operator(x, panels, scales, 40), int8_linear(x, panels, scales, 40), rtol=1e-6, atol=1e-5
    )


def test_extremes_do_not_overflow(int8_linear):
    for value in (1.0, -1.0):
        x, weight = torch.full((2, 4096), value), torch.full((16, 4096), -value)
        torch.testing.assert_close(int8_linear(x, *pack(weight), 16), x @ weight.T, rtol=1e-2, atol=0)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_not_hidden(bad, int8_linear):
    x, packed = random(3, 40), pack(random(5, 40))
    x[1, 35] = bad
    got = int8_linear(x, *packed, 5)
    assert got[1].isnan().all() and got[[0, 2]].isfinite().all()


def test_rows_do_not_depend_on_their_company(int8_linear):
    x, packed = random(19, 100), pack(random(50, 100))
    together = int8_linear(x, *packed, 50)
    assert torch.equal(together, torch.cat([int8_linear(row[None], *packed, 50) for row in x]))


def test_leading_dimensions_stay_and_no_rows_are_none(int8_linear):
    x, packed = random(2, 3, 40), pack(random(5, 40))
    assert torch.equal(int8_linear(x, *packed, 5), int8_linear(x.view(6, 40), *packed, 5).view(2, 3, 5))
    assert int8_linear(x[:0], *packed, 5).shape == (0, 3, 5)
    assert int8_linear(x[0, 0], *packed, 5).shape == (5,)


def test_threads_share_the_outputs(int8_linear):
    x, packed = random(2, 512), pack(random(3001, 512))
    alone = int8_linear(x, *packed, 3001)
    torch.set_num_threads(2)
    try:
        assert torch.equal(int8_linear(x, *packed, 3001), alone)
    finally:
        torch.set_num_threads(1)


def test_what_does_not_fit_is_refused(int8_linear):
    panels, scales = pack(random(20, 64))
    for x, outputs, why in (
        (random(2, 32), 20, "rounded up to a multiple of 32"),
        (random(2, 65), 20, "rounded up to a multiple of 32"),
        (random(2, 64), 33, "outputs that fill P panels"),
        (random(2, 64), 16, "outputs that fill P panels"),
        (random(2, 64).double(), 20, "x must be float32"),
        (random(64, 2).T, 20, "x must be contiguous"),
    ):
        with pytest.raises(RuntimeError, match=why):
            int8_linear(x, panels, scales, outputs)


def test_a_layer_computes_the_same_with_and_without_the_operator(monkeypatch):
    linear = torch.nn.Linear(100, 37)
    layer, x = Int8Linear(linear.weight, linear.bias), random(2, 3, 100)
    expected = x @ layer.weight().T + linear.bias
    torch.testing.assert_close(layer(x), expected, rtol=1e-3, atol=1e-3)
    monkeypatch.setattr(int8.library, "_found", [False])
    torch.testing.assert_close(layer(x), expected)
    assert layer(x.bfloat16()).dtype == torch.bfloat16
