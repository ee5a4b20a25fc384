"""Stems and cells."""

import pytest
import torch

from muomni.nn.patch import PatchStem, gather_cells


def test_patches_come_in_reading_order():
    stem = PatchStem(2, patch=4)
    images = torch.randn(1, 3, 8, 8)
    seen = stem(images)
    assert seen.shape == (1, 4, 2)
    images[..., :4, 4:] += 1.0  # top right
    changed = (stem(images) - seen).abs().sum(-1)[0] > 1e-6
    assert changed.tolist() == [False, True, False, False]


def test_conv_stem_gives_one_token_a_patch():
    stem = PatchStem(8, patch=24, first=4, channels=[4, 6])
    assert stem(torch.randn(2, 3, 72, 72)).shape == (2, 9, 8)


def test_conv_stem_names_a_patch_that_does_not_fit():
    with pytest.raises(ValueError, match="patch 10.*stem_patch 4"):
        PatchStem(8, patch=10, first=4, channels=[4, 6])


def test_cells_hold_their_own_patches():
    grid = torch.arange(16.0).view(1, 16, 1)  # 4 x 4
    cells = gather_cells(grid, 2)
    assert cells.shape == (1, 4, 4, 1)
    assert cells[0, 1, :, 0].tolist() == [2, 3, 6, 7]
    assert cells[0, 2, :, 0].tolist() == [8, 9, 12, 13]


def test_a_grid_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="16 patches cannot be pooled to 3 x 3"):
        gather_cells(torch.zeros(1, 16, 2), 3)
