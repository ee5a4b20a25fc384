"""Batches of clips that are alike after the change of speed."""

import numpy as np
import pytest

from datamodules.augment import MelAugment
from datamodules.batch_sampler import ResumableBatchSampler
from datamodules.speech_set import SpeechSet

OFF = {"warp": 0.0, "gain": 0.0, "noise": 0.0, "time_masks": 0, "time_width": 1, "freq_masks": 0, "freq_width": 1}


class Mels(list):
    """Log-mels in memory."""

    @property
    def lengths(self):
        return np.array([len(mel) for mel in self])


@pytest.fixture
def clips():
    lengths = np.random.default_rng(0).integers(60, 600, 200)
    mels = Mels(np.zeros((length, 2), dtype=np.float32) for length in lengths)
    rows = [{"id": str(index), "text": "a", "audio": "a.wav"} for index in range(200)]
    augment = MelAugment(speed=0.2, **OFF)
    return SpeechSet(rows, mels, characters=None, speakers={}, augment=augment, simulate=None, seed=0)


def test_the_lengths_of_an_epoch_are_those_of_its_samples(clips):
    for epoch in (0, 3):
        assert clips.lengths_in(epoch).tolist() == [len(clips.item(index, epoch).mel) for index in range(200)]
    assert (clips.lengths_in(0) != clips.lengths_in(3)).any()


def test_batches_pad_less_and_are_resumed(clips):
    def padding(sampler):
        total = real = 0
        for epoch in range(4):
            for batch in sampler.batches(epoch)[0]:
                drawn = clips.lengths_in(epoch)[batch]
                total, real = total + drawn.max() * len(drawn), real + drawn.sum()
        return 1 - real / total

    plain = ResumableBatchSampler(200, batch_size=8, seed=0, lengths=clips.lengths)
    drawn = ResumableBatchSampler(200, batch_size=8, seed=0, lengths=clips.lengths, lengths_in=clips.lengths_in)
    assert padding(drawn) < 0.5 * padding(plain)
    again = ResumableBatchSampler(200, batch_size=8, seed=0, lengths=clips.lengths, lengths_in=clips.lengths_in)
    again.load_state_dict({"epoch": 2, "consumed": 80})
    assert [batch.tolist() for batch in again.batches(2)[0]] == [batch.tolist() for batch in drawn.batches(2)[0]]
