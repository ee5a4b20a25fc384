"""The cache: it keeps what was appended, refuses too much, and rolls back."""

import pytest
import torch

from muomni.nn.cache import KVCache


def new(capacity=6, layers=2, batch=1, heads=3, width=4, dtype=torch.float32):
    return KVCache(
        num_layers=layers,
        batch_size=batch,
        num_kv_heads=heads,
        capacity=capacity,
        head_dim=width,
        dtype=dtype,
        device="cpu",
    )


def entry(count, value):
    return torch.full((1, 3, count, 4), float(value))


def test_bytes_are_the_reference_formula():
    """2 x 16 layers x 512 tokens x 6 heads x 64 x 2 bytes."""
    assert new(capacity=512, layers=16, heads=6, width=64, dtype=torch.bfloat16).nbytes == 12_582_912


def test_append_gives_everything_so_far_and_layers_are_apart():
    cache = new()
    cache.append(0, entry(2, 1), entry(2, 10))
    cache.append(1, entry(2, 2), entry(2, 20))
    cache.advance(2)
    keys, values = cache.append(0, entry(1, 3), entry(1, 30))
    assert keys[0, 0, :, 0].tolist() == [1, 1, 3]
    assert values[0, 2, :, 3].tolist() == [10, 10, 30]
    assert cache.keys[1, 0, 0, :3, 0].tolist() == [2, 2, 0]
    assert (cache.position, cache.remaining) == (2, 4)


def test_overflow_is_refused_and_changes_nothing():
    cache = new()
    cache.append(0, entry(5, 1), entry(5, 1))
    cache.advance(5)
    with pytest.raises(ValueError, match="Too many tokens: 7 > 6"):
        cache.append(0, entry(2, 2), entry(2, 2))
    assert cache.position == 5
    assert cache.append(0, entry(1, 2), entry(1, 2))[0].shape[2] == 6


def test_roll_back_forgets_what_came_after():
    cache = new()
    cache.append(0, entry(4, 1), entry(4, 1))
    cache.mask_padding(torch.tensor([[False, True, True, False]]))
    cache.advance(4)
    cache.roll_back(2)
    assert cache.keep[0].tolist() == [False, True, True, True, True, True]
    keys, _ = cache.append(0, entry(1, 9), entry(1, 9))
    assert keys[0, 0, :, 0].tolist() == [1, 1, 9]


@pytest.mark.parametrize("position", [-1, 3])
def test_rolling_forward_is_refused(position):
    cache = new()
    cache.advance(2)
    with pytest.raises(ValueError, match=f"roll the cache back to {position}: it holds 2"):
        cache.roll_back(position)


def test_reset_leaves_no_padding_behind():
    cache = new()
    cache.mask_padding(torch.tensor([[False, False, True]]))
    cache.advance(3)
    cache.reset()
    assert (cache.position, cache.left_padded, bool(cache.keep.all())) == (0, False, True)
