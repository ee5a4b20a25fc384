"""The product for few rows, on each set of instructions that this machine has."""

import ctypes

import pytest
import torch

from muomni.inference.decoding.native import library

SHAPES = [(1, 1), (3, 5), (16, 64), (37, 24), (65, 129), (130, 577)]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def check_shapes(float_linear):
    for outputs, inputs in SHAPES:
        for rows in (1, 2, 3, 4, 5, 6, 7, 8, 9, 17):
            for dtype in DTYPES:
                x, weight = random(rows, inputs), random(outputs, inputs).to(dtype)
                expected = torch.nn.functional.linear(x.double(), weight.double()).float()
                torch.testing.assert_close(float_linear(x, weight), expected, rtol=1e-5, atol=2e-6 * inputs**0.5 * 4)


def check_halves(float_linear):
    """Every number that half precision has."""
    for dtype in (torch.float16, torch.bfloat16):
        weight = torch.arange(65536).to(torch.uint16).view(dtype)
        expected = torch.where(weight.isnan(), torch.nan, weight.float())
        # One product a row, and the others by nothing: first in a tail of one, then in whole registers.
        for inputs in (1, 128):
            x = torch.zeros(1, inputs)
            x[0, 0] = 1
            padded = torch.zeros(65536, inputs, dtype=dtype)
            padded[:, 0] = weight
            assert torch.equal(float_linear(x, padded)[0].nan_to_num(7), expected.nan_to_num(7))


@pytest.fixture(scope="module")
def float_linear():
    if not library.available():
        pytest.skip("no C++ compiler")
    return torch.ops.muomni.float_linear


def test_the_product_is_that_of_a_linear_layer(float_linear):
    check_shapes(float_linear)
    check_halves(float_linear)


@pytest.mark.slow  # a compiler
@pytest.mark.parametrize("level", library.LEVELS)
def test_every_level_of_this_machine_computes_the_same(level, tmp_path):
    if not library.has(level):
        pytest.skip(f"this processor has no {level}")
    library.build(tmp_path / "operators.so", level, namespace=f"muomni_{level}")
    ctypes.CDLL(str(tmp_path / "operators.so"))
    operators = getattr(torch.ops, f"muomni_{level}")
    check_shapes(operators.float_linear)
    check_halves(operators.float_linear)


def test_leading_dimensions_stay_and_no_rows_are_none(float_linear):
    x, weight = random(2, 3, 24), random(5, 24)
    torch.testing.assert_close(float_linear(x, weight), x @ weight.T)
    assert float_linear(x[:0], weight).shape == (0, 3, 5)
    assert float_linear(x[0, 0], weight).shape == (5,)


def test_threads_share_the_outputs(float_linear):
    x, weight = random(3, 300), random(5001, 300)
    alone = float_linear(x, weight)
    torch.set_num_threads(2)
    try:
        torch.testing.assert_close(float_linear(x, weight), alone)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("x", "weight", "why"),
    [
        (random(2, 3), random(4, 5), "K"),
        (random(2, 3).double(), random(4, 3), "float32"),
        (random(2, 3), random(4, 3).double(), "bfloat16 or float16"),
        (random(3, 2).T, random(4, 3), "x must be contiguous"),
        (random(2, 3), random(3, 4).T, "weight must be contiguous"),
    ],
)
def test_what_does_not_fit_is_refused(x, weight, why, float_linear):
    with pytest.raises(RuntimeError, match=why):
        float_linear(x, weight)


def test_shapes_are_known_without_computing(float_linear):
    with torch.device("meta"):
        assert float_linear(torch.empty(2, 3, 8), torch.empty(5, 8)).shape == (2, 3, 5)
