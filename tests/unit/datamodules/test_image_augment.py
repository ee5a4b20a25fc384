"""Pictures move and change contrast within their bounds."""

import numpy as np
import pytest
import torch

from datamodules.image_augment import ImageAugment


@pytest.mark.parametrize("seed", range(20))
def test_a_picture_moves_by_at_most_the_shift_and_its_edge_goes_on(seed):
    picture = torch.zeros(3, 9, 9)
    picture[:, 4, 4] = 1.0
    moved = ImageAugment(shift=2, contrast=0.0)(picture, np.random.default_rng(seed))
    place = (moved[0] > 0.5).nonzero()
    assert len(place) == 1 and (place - 4).abs().max() <= 2
    edge = torch.zeros(3, 9, 9)
    edge[:, 0] = 1.0
    moved = ImageAugment(shift=2, contrast=0.0)(edge, np.random.default_rng(seed))
    assert moved[0, 0].unique().numel() == 1, "a whole row, as the edge was"


def test_contrast_changes_the_distance_from_the_mean_alone():
    picture = torch.randn(3, 8, 8)
    changed = ImageAugment(shift=0, contrast=0.2)(picture, np.random.default_rng(3))
    factor = (changed - picture.mean()) / (picture - picture.mean())
    assert torch.allclose(factor, factor.mean().expand_as(factor), atol=1e-3)
    assert 0.8 <= factor.mean() <= 1.2 and changed.mean() == pytest.approx(picture.mean().item(), abs=1e-5)
