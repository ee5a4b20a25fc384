"""Packing: nothing lost, nothing cut, rows no wider than asked for, few of them."""

import numpy as np
import pytest
import torch

from datamodules.packing import bin_pack, pack
from muomni.special_tokens import IGNORE, PAD


@pytest.mark.parametrize("seed", range(20))
def test_every_sample_has_one_place_and_rows_are_full(seed):
    rng = np.random.default_rng(seed)
    lengths, width = rng.integers(1, 70, rng.integers(1, 40)).tolist(), int(rng.integers(1, 64))
    rows = bin_pack(lengths, width=width)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    sums = [sum(lengths[index] for index in row) for row in rows]
    assert all(total <= width or len(row) == 1 for total, row in zip(sums, rows, strict=True))
    assert all(a + b > width for a, b in zip(sums, sums[1:], strict=False)), "two neighbours would fit into one"


def test_by_hand():
    def sample(*tokens):
        return torch.tensor(tokens), torch.tensor([*tokens[1:], IGNORE])

    samples = [sample(5, 6), sample(7, 8, 9), sample(4)]
    rows = bin_pack([2, 3, 1], width=5)
    assert rows == [[1, 0], [2]]
    ids, targets, segments = pack(samples, rows)
    assert ids.tolist() == [[7, 8, 9, 5, 6], [4, PAD, PAD, PAD, PAD]]
    assert targets.tolist() == [[8, 9, IGNORE, 6, IGNORE], [IGNORE] * 5]
    assert segments.tolist() == [[1, 1, 1, 2, 2], [1, 0, 0, 0, 0]]
