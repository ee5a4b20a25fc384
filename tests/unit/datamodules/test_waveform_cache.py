"""Sounds kept in memory."""

import numpy as np
import pytest
import torch

from datamodules.waveform_cache import WaveformCache
from muomni.frontends.audio_io import write_audio


@pytest.fixture
def rows(tmp_path):
    for index in range(3):
        write_audio(tmp_path / f"{index}.wav", 0.5 * torch.sin(torch.arange(800 * (index + 1)) * 0.1), 16000)
    return [{"id": str(index), "audio": str(tmp_path / f"{index}.wav")} for index in range(3)]


def test_sounds_are_those_of_the_files_whether_kept_or_read_again(rows):
    kept, again = (WaveformCache(rows, sample_rate=16000, memory_mb=mb, what="x") for mb in (10, 0))
    assert kept.lengths.tolist() == again.lengths.tolist() == [800, 1600, 2400]
    for index in range(3):
        np.testing.assert_array_equal(kept[index], again[index])
    np.testing.assert_allclose(kept[1], 0.5 * np.sin(np.arange(1600) * 0.1), atol=1e-4)


def test_other_rates_are_resampled(rows):
    assert WaveformCache(rows, sample_rate=8000, memory_mb=10, what="x").lengths.tolist() == [400, 800, 1200]


def test_a_broken_file_is_found_at_once_and_named(rows):
    with open(rows[1]["audio"], "wb") as file:
        file.write(b"no sound")
    with pytest.raises(ValueError, match=r"x: 1 of 3 samples cannot be used.*1: cannot read .*1\.wav"):
        WaveformCache(rows, sample_rate=16000, memory_mb=10, what="x")


def test_one_broken_file_of_many_is_a_clip_of_no_samples(rows):
    with open(rows[2]["audio"], "wb") as file:
        file.write(b"no sound")
    store = WaveformCache(rows[:2] * 99 + rows[2:], sample_rate=16000, memory_mb=10, what="x")
    assert store.lengths[-1] == 0 and len(store.lengths) == 199
