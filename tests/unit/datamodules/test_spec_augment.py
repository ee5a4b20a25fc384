"""SpecAugment: masks and their limits, the time warp, two views; and how speech data uses it."""

import numpy as np
import pytest

from datamodules.spec_augment import SpecAugment, warp_time
from tests.unit.datamodules.test_speech import AUGMENT, build, manifest

assert manifest  # the fixture
OFF = {
    "time_warp": 0,
    "time_masks": 0,
    "time_width": 40,
    "time_share": 0.4,
    "freq_masks": 0,
    "freq_width": 20,
    "views": 1,
}


def spec(**options):
    return SpecAugment(**(OFF | options))


def rng(seed=0):
    return np.random.default_rng(seed)


def clip(frames=100, bins=40):
    return rng(9).normal(size=(frames, bins)).astype(np.float32)


def test_masks_have_the_mean_and_respect_their_limits():
    mel = clip()
    most = 0
    for seed in range(50):
        (masked,) = spec(time_masks=4, time_share=0.2)(mel, rng(seed))
        rows = (masked != mel).any(axis=1)
        np.testing.assert_array_equal(masked[rows], np.full((rows.sum(), 40), mel.mean()))
        most = max(most, rows.sum())
    assert 10 < most <= 20
    (masked,) = spec(freq_masks=2, freq_width=5)(mel, rng(1))
    columns = (masked != mel).any(axis=0)
    assert 0 < columns.sum() <= 10
    np.testing.assert_array_equal(masked[:, columns], np.full((100, columns.sum()), mel.mean()))


def test_off_changes_nothing_and_says_so():
    assert not spec().is_on
    np.testing.assert_array_equal(spec()(clip(), rng())[0], clip())
    assert spec(views=2).is_on
    assert spec(time_warp=5).is_on


def test_a_time_warp_keeps_the_ends_and_moves_a_frame():
    ramp = np.repeat(np.arange(60, dtype=np.float32)[:, None], 3, axis=1)
    shifts = []
    for seed in range(40):
        warped = warp_time(ramp, 8, rng(seed))
        assert warped.shape == ramp.shape
        assert (np.diff(warped[:, 0]) > 0).all()  # no frame is left out or comes twice
        np.testing.assert_allclose(warped[[0, -1]], ramp[[0, -1]])
        shifts.append(np.abs(warped - ramp).max())
    assert 5 < max(shifts) <= 8
    np.testing.assert_array_equal(warp_time(ramp[:17], 8, rng()), ramp[:17])  # too short


def test_two_views_differ_in_their_masks_alone():
    first, second = spec(time_warp=8, time_masks=2, freq_masks=1, views=2)(clip(), rng())
    same = first == second
    assert not same.all()
    assert same.mean() > 0.3  # both are warped by the same


@pytest.mark.parametrize("wrong", [{"views": 3}, {"time_share": 1.5}, {"time_masks": -1}])
def test_refused_options_are_named(wrong):
    with pytest.raises(ValueError, match=f"datamodule.spec_augment.{next(iter(wrong))}"):
        spec(**wrong)


def test_speech_data_draws_by_seed_epoch_and_index(manifest):
    options = {
        "augment": AUGMENT,
        "spec_augment": spec(time_masks=1, time_width=6, freq_masks=1, freq_width=6, views=2),
    }
    data, again, plain = build(manifest, **options), build(manifest, **options), build(manifest, augment=AUGMENT)
    sample = data.samples("train").item(4, 2)
    np.testing.assert_array_equal(sample.other_view, again.samples("train").item(4, 2).other_view)
    assert not np.array_equal(sample.mel, data.samples("train").item(4, 3).mel)
    unmasked = plain.samples("train").item(4, 2).mel  # what else is drawn stays the same
    assert sample.mel.shape == unmasked.shape
    assert (sample.mel == unmasked).mean() > 0.3
    assert data.samples("val").item(4, -1).other_view is None


def test_views_are_the_second_half_of_a_batch(manifest):
    data = build(manifest, spec_augment=spec(freq_masks=1, views=2))
    samples = [data.samples("train").item(index, 0) for index in (0, 5)]
    batch = data.collate(samples)
    assert batch.views == 2
    assert batch.mel_lengths.tolist() == [20, 70, 20, 70]
    assert batch.texts == ["text 0", "text 5"] * 2
    np.testing.assert_array_equal(batch.mel[3].numpy(), samples[1].other_view)
    assert data.collate([data.samples("val").item(0, -1)]).views == 1
