"""Augmentation of batches: what each option does, and that draws are a sample's own."""

import pytest
import torch

from datamodules.image_batch_augment import ImageBatchAugment

S = 12


def augmented(images, *, epoch=0, first=0, **options):
    indices = list(range(first, first + len(images)))
    return ImageBatchAugment(**options)(images, seed=5, epochs=[epoch] * len(images), indices=indices)


def test_what_is_off_is_the_very_same_tensor():
    images = torch.randn(3, 3, S, S)
    assert augmented(images) is images


ALL = {"crop": 0.5, "flip": "random", "shift": 2, "colour": 0.3, "cutout": 4}


def test_draws_depend_on_seed_epoch_and_index_not_on_the_batch():
    images = torch.randn(1, 3, S, S).expand(6, -1, -1, -1)
    whole = augmented(images, **ALL)
    assert torch.equal(augmented(images[:2], first=3, **ALL), whole[3:5])
    assert all((whole[0] - other).abs().max() > 0.1 for other in whole[1:])
    assert not torch.equal(augmented(images, epoch=1, **ALL), whole)


@pytest.mark.parametrize("option", ALL)
def test_each_option_alone_changes_images_and_keeps_their_shape(option):
    images = torch.randn(8, 3, S, S)
    changed = augmented(images, **{option: ALL[option]})
    assert changed.shape == images.shape and not torch.equal(changed, images) and changed.isfinite().all()


def test_alternating_flips_every_other_epoch_half_of_the_images_first():
    images = torch.randn(40, 3, S, S)
    flipped = [(augmented(images, epoch=epoch, flip="alternating") != images).flatten(1).any(1) for epoch in range(3)]
    assert 10 < flipped[0].sum() < 30 and torch.equal(flipped[0], ~flipped[1]) and torch.equal(flipped[0], flipped[2])
    once = augmented(images, flip="alternating")
    assert torch.equal(once[flipped[0]], images[flipped[0]].flip(3))


def test_a_shift_reflects_the_border_and_reaches_both_ends():
    ramp = torch.arange(S).float().expand(64, 3, S, S)
    moved = augmented(ramp, shift=2)
    offsets = {int(row[4]) - 4 for row in moved[:, 0, 0]}
    assert offsets == {-2, -1, 0, 1, 2}
    first = moved[[int(row[4]) == 2 for row in moved[:, 0, 0]]][0, 0, 0]
    assert first[:4].tolist() == [2, 1, 0, 1], "reflected without repeating the border"


def test_a_crop_is_a_window_of_at_least_its_share_of_the_area():
    ramp = torch.stack(torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij"))
    images = torch.cat((ramp, ramp[:1])).expand(50, -1, -1, -1)
    cropped = augmented(images, crop=0.25)
    sides = [cropped[:, axis].flatten(1).amax(1) - cropped[:, axis].flatten(1).amin(1) for axis in (0, 1)]
    area = sides[0] * sides[1] / 63**2
    assert 0.2 < area.min() < 0.5 and area.max() <= 1.01
    assert 0.7 < (sides[0] / sides[1]).min() < 1.0 < (sides[0] / sides[1]).max() < 1.4


def test_colour_moves_mean_spread_and_saturation_within_the_strength():
    images = torch.randn(30, 3, S, S)
    changed = augmented(images, colour=0.2)
    assert 0.05 < (changed.mean((1, 2, 3)) - images.mean((1, 2, 3))).abs().max() <= 0.2 + 1e-5
    grey = images.mean(1, keepdim=True).expand_as(images)
    kept = augmented(grey, colour=0.2)
    assert torch.allclose(kept, kept.mean(1, keepdim=True).expand_as(kept), atol=1e-5), "grey stays grey"


def test_cutout_hides_one_square_with_the_mean():
    images = torch.ones(40, 3, S, S)
    hidden = augmented(images, cutout=4) == 0
    assert torch.equal(hidden[:, 0], hidden[:, 1]) and (hidden[:, 0].flatten(1).sum(1) == 16).any()
    assert ((hidden[:, 0].flatten(1).sum(1) >= 4) & (hidden[:, 0].flatten(1).sum(1) <= 16)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip": "yes"}, "augment.flip='yes'; available: none, random, alternating"),
        ({"crop": 0.0}, "augment.crop=0.0: a number from 0.05 to 1"),
        ({"colour": 2}, "augment.colour=2"),
        ({"cutout": True}, "augment.cutout=True"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ImageBatchAugment(**options)


def test_a_shift_of_a_whole_image_is_named():
    with pytest.raises(ValueError, match="augment.shift=12: images have 12 pixels"):
        augmented(torch.zeros(1, 3, S, S), shift=12)
