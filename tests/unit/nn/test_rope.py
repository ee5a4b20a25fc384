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


def test_llama3_stretches_long_waves_and_leaves_short_ones():
    """Waves of over 32 / 1 tokens are stretched eightfold, those under 32 / 4 stay, one between is interpolated."""
    table = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }  # fmt: skip
    plain, found = Rope(K, theta=100.0).inverse_frequency, Rope(K, theta=100.0, scaling=table).inverse_frequency
    waves = [2 * math.pi * 100 ** (i / 4) for i in range(4)]  # 6.3, 19.9, 62.8, 198.7
    smooth = (32 / waves[1] - 1) / 3
    expected = torch.tensor([1.0, (1 - smooth) / 8 + smooth, 1 / 8, 1 / 8])
    torch.testing.assert_close(found / plain, expected)


def test_yarn_by_hand():
    """No frequency turns 32 times in 32 tokens; dimensions from 3 on turn less than once."""
    table = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    plain, scaled = Rope(K, theta=100.0), Rope(K, theta=100.0, scaling=table)
    high = math.ceil(4 * math.log(32 / (2 * math.pi)) / math.log(100.0))  # 2
    ramp = torch.tensor([min(i / high, 1) for i in range(4)])
    torch.testing.assert_close(scaled.inverse_frequency / plain.inverse_frequency, ramp / 4 + 1 - ramp)
    cos, _ = scaled(torch.tensor([0]))
    torch.testing.assert_close(cos, torch.full((1, 4), 0.1 * math.log(4) + 1))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, "unknown rope_type 'dynamic'"),
        ({"rope_type": "yarn", "factor": 2.0}, "needs 'original_max_position_embeddings'"),
        ({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 8, "x": 1}, "yarn has no 'x'"),
        ({"rope_type": "yarn", "factor": -2.0, "original_max_position_embeddings": 8}, "factor=-2.0"),
    ],
)
def test_a_table_of_scaling_that_cannot_be_read(table, message):
    with pytest.raises(ValueError, match=message):
        Rope(K, theta=100.0, scaling=table)
