"""Augmentation of recordings: each does what it says, as a function of its generator; how speech data uses it."""

import numpy as np
import pytest
import torch

from datamodules.codec_augment import CODECS, through_codec
from datamodules.waveform_augment import (
    WaveformAugment,
    WaveformAugmenter,
    add_noise,
    reverberate,
    simulated_impulse,
)
from muomni.frontends.audio_io import write_audio
from tests.unit.datamodules.test_speech import build, manifest

assert manifest  # the fixture
RATE = 16000
OFF = {
    "speeds": [1.0], "reverb": 0.0, "impulses": None, "decay": [0.1, 0.4], "noise": 0.0, "noises": None, "snr": [5.0, 5.0],
    "gain": 0.0, "codec": 0.0, "codecs": list(CODECS), "memory_mb": 64,
}  # fmt: skip


def options(**changes):
    return WaveformAugment(**(OFF | changes))


def augmenter(**changes):
    return WaveformAugmenter(options(**changes), sample_rate=RATE, shortest=160)


def rng(seed=0):
    return np.random.default_rng(seed)


def tone(hertz=440, samples=8000, level=0.3):
    return (level * np.sin(2 * np.pi * hertz / RATE * np.arange(samples))).astype(np.float32)


def peak_hertz(x):
    return np.abs(np.fft.rfft(x)).argmax() * RATE / len(x)


def test_off_returns_the_clip_itself():
    assert not options().is_on
    x = tone()
    assert augmenter()(x, rng()) is x


def test_speed_changes_length_and_pitch_together():
    faster, slower = (augmenter(speeds=[factor])(tone(), rng()) for factor in (1.1, 0.9))
    assert len(faster) == round(8000 / 1.1)
    assert len(slower) == -(-8000 * 10 // 9)
    assert abs(peak_hertz(faster) - 484) < 3
    assert abs(peak_hertz(slower) - 396) < 3
    short = tone(samples=170)
    assert augmenter(speeds=[1.1])(short, rng()) is short  # a frame would not be left
    assert {len(augmenter(speeds=[0.9, 1.0, 1.1])(tone(), rng(seed))) for seed in range(20)} == {7273, 8000, 8889}


def test_noise_of_a_folder_has_its_distance(tmp_path):
    (tmp_path / "street").mkdir()
    noise = rng(1).normal(size=4000).astype(np.float32) * 0.1
    write_audio(tmp_path / "street" / "a.wav", torch.from_numpy(noise), RATE)
    x = tone()
    mixed = augmenter(noise=1.0, noises=str(tmp_path), snr=[5.0, 5.0])(x, rng())
    added = mixed - x
    assert abs(10 * np.log10(np.square(x).mean() / np.square(added).mean()) - 5) < 0.01
    np.testing.assert_allclose(added[:4000], added[4000:], atol=1e-6)  # repeated where it is shorter
    silence = np.zeros(100, dtype=np.float32)
    assert add_noise(silence, noise, 5.0, rng()) is silence


def test_a_room_adds_a_decaying_echo_and_no_delay(tmp_path):
    impulse = simulated_impulse(RATE, 0.3, 5.0, rng())
    assert len(impulse) == 4800
    assert impulse.argmax() == 0
    assert abs(10 * np.log10(np.square(impulse[1:]).sum()) + 5) < 0.01
    energy = np.square(impulse[1:4798]).reshape(3, -1).sum(1)  # of thirds: 20 dB less each
    assert 15 < 10 * np.log10(energy[0] / energy[1]) < 25
    x = np.zeros(8000, dtype=np.float32)
    x[1000] = 1.0
    late = np.concatenate([np.zeros(500, dtype=np.float32), impulse])  # a recorded one with silence before it
    wet = reverberate(x, late)
    assert wet.argmax() == 1000
    assert abs(np.square(wet).mean() / np.square(x).mean() - 1) < 1e-3
    write_audio(tmp_path / "hall.wav", torch.from_numpy(late), RATE)
    recorded = augmenter(reverb=1.0, impulses=str(tmp_path))(x, rng())
    np.testing.assert_allclose(recorded, wet, atol=1e-3)
    assert not np.array_equal(augmenter(reverb=1.0)(x, rng(1)), augmenter(reverb=1.0)(x, rng(2)))


def test_gain_clips_at_full_scale():
    clipped = [augmenter(gain=20.0)(tone(), rng(seed)) for seed in range(10)]
    peaks = [np.abs(x).max() for x in clipped]
    assert max(peaks) == 1.0
    assert min(peaks) < 0.2


@pytest.mark.parametrize("rate", [16000, 8000, 22050])
@pytest.mark.parametrize("name", CODECS)
def test_codecs_keep_length_and_place_and_lose_something(name, rate):
    chirp = 0.4 * np.sin(np.cumsum(np.linspace(0.02, 0.5, rate // 2)))
    y = through_codec(chirp.astype(np.float32), rate, name)
    assert y.shape == chirp.shape
    assert 0.7 < np.corrcoef(chirp, y)[0, 1] < 0.999999
    assert not np.array_equal(chirp, y)


def test_a_telephone_has_nothing_above_its_band():
    high = tone(6000)
    for name in ("band", "mulaw"):
        assert np.abs(through_codec(high, RATE, name)[500:-500]).max() < 0.02
    assert np.abs(through_codec(high, RATE, "vorbis")).max() > 0.1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"noise": 0.5}, "name a folder of recordings"),
        ({"noise": 1.5}, "a share, from 0 to 1"),
        ({"speeds": [0.333]}, "at most two decimals"),
        ({"snr": [20.0, 5.0]}, "two numbers, from and to"),
        ({"codecs": ["amr"]}, "some of band, mulaw"),
    ],
)
def test_refused_options_are_named(wrong, message):
    with pytest.raises(ValueError, match=f"datamodule.waveform_augment.{next(iter(wrong))}=.*{message}"):
        options(**wrong)


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(ValueError, match="waveform_augment.noises=.*no recordings in it"):
        augmenter(noise=1.0, noises=str(tmp_path / "nothing"))


def test_speech_data_draws_by_seed_epoch_and_index(manifest):
    changes = {"waveform_augment": options(speeds=[0.5], reverb=0.5, codec=0.5)}
    data, again = build(manifest, **changes), build(manifest, **changes)
    sample = data.samples("train").item(5, 1)
    np.testing.assert_array_equal(sample.mel, again.samples("train").item(5, 1).mel)
    assert len(sample.mel) == 140  # twice as long
    assert not np.array_equal(sample.mel, data.samples("train").item(5, 2).mel)
    assert len(data.samples("val").item(5, -1).mel) == 70
    rare = build(manifest, waveform_augment=options(codec=0.001)).samples("train")
    np.testing.assert_array_equal(rare.item(5, 0).mel, build(manifest).samples("train").item(5, 0).mel)
