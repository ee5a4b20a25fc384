"""Draws of many samples at once: each its own, uniform, independent of the batch."""

import numpy as np

from datamodules.counter_rng import uniform


def test_a_samples_draws_depend_on_seed_epoch_and_index_alone():
    whole = uniform(3, [1, 1, 2], [7, 8, 7], draws=4)
    assert np.array_equal(uniform(3, [2], [7], draws=4)[0], whole[2])
    assert np.array_equal(uniform(3, [1], [8], draws=2)[0], whole[1, :2]), "more draws change none before them"
    others = [uniform(4, [1], [7], draws=4)[0], uniform(3, [7], [1], draws=4)[0], whole[1], whole[2]]
    assert all(not np.intersect1d(whole[0], other).size for other in others)


def test_draws_are_uniform_and_uncorrelated():
    drawn = uniform(0, np.repeat(np.arange(20), 500), np.tile(np.arange(500), 20), draws=6)
    assert drawn.min() >= 0 and drawn.max() < 1
    assert np.abs(drawn.mean(axis=0) - 0.5).max() < 0.015 and np.abs(drawn.var(axis=0) - 1 / 12).max() < 0.003
    assert np.abs(np.corrcoef(drawn.T) - np.eye(6)).max() < 0.05
    by_epoch = drawn[:, 0].reshape(20, 500)
    assert np.abs(np.corrcoef(by_epoch) - np.eye(20)).max() < 0.2
