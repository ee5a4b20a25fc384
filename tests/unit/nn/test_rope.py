"""Rotary positions: only differences count, lengths stay, the layout is half-split."""

import math

import pytest
import torch

from muomni.nn.rope import Rope, rotate

K = 8


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def turned(x, position, rope):
    return rotate(x.view(1, 1, 1, K), *rope(torch.tensor([position]))).flatten()


@pytest.mark.parametrize("shift", [0, 1, 17, 2.5])
def test_scores_depend_on_the_difference_alone(shift):
    rope, query, key = Rope(K, theta=10000.0), torch.randn(K), torch.randn(K)
    near = turned(query, 7.0, rope) @ turned(key, 3.0, rope)
    far = turned(query, 7.0 + shift, rope) @ turned(key, 3.0 + shift, rope)
    torch.testing.assert_close(far, near, atol=1e-4, rtol=1e-4)
    assert abs(turned(query, 8.0, rope) @ turned(key, 3.0, rope) - near) > 1e-3


def test_pairs_are_first_and_second_half_by_hand():
    """The unit vector of pair i turns by position x theta^(-2i/K) into the plane (i, i + K/2)."""
    rope, x = Rope(K, theta=100.0), torch.zeros(K)
    x[1] = 1.0
    angle = 3 * 100.0 ** (-2 / K)
    expected = torch.zeros(K)
    expected[1], expected[5] = math.cos(angle), math.sin(angle)
    torch.testing.assert_close(turned(x, 3, rope), expected)


def test_lengths_stay_and_position_zero_is_identity():
    rope, x = Rope(K, theta=10000.0), torch.randn(K)
    torch.testing.assert_close(turned(x, 123, rope).norm(), x.norm())
    torch.testing.assert_close(turned(x, 0, rope), x)


def test_scaling_divides_positions():
    x = torch.randn(K)
    torch.testing.assert_close(turned(x, 12, Rope(K, theta=10000.0, scaling=4.0)), turned(x, 3, Rope(K, theta=10000.0)))


def test_batched_positions_equal_rows():
    rope, x = Rope(K, theta=10000.0), torch.randn(2, 3, 4, K)
    positions = torch.tensor([[0, 1, 2, 3], [5, 6, 9, 2]])
    both = rotate(x, *rope(positions))
    for row in range(2):
        torch.testing.assert_close(both[row], rotate(x[row : row + 1], *rope(positions[row]))[0])


def test_dtype_stays_and_odd_widths_are_refused():
    x = torch.randn(1, 1, 2, K, dtype=torch.bfloat16)
    assert rotate(x, *Rope(K, theta=10000.0)(torch.arange(2))).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="even head width, got 7"):
        Rope(7, theta=10000.0)
