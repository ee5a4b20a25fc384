"""Clips under other recording conditions: noise as far below the voice as asked for, silence around it, a telephone's band."""

import numpy as np
import pytest
import torch

from datamodules.conditions import AcousticSimulator, Conditions, FixedConditions, simulator_for
from datamodules.mel_cache import MelCache
from datamodules.speech_set import SpeechSample, fit_silence
from muomni.frontends.hearing import UNSAID, Hearing
from muomni.frontends.mel import MelSpec, denormalise_log

MEL = MelSpec(sample_rate=16000, hop=160, n_fft=1024, win=400, bins=40, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)
PLAIN = {"noise": 0.0, "snr": [10.0, 40.0], "telephone": 0.0, "silence": 0.0, "margin": 0.0}
CLIP = np.random.default_rng(0).normal(0, 1, (150, 40)).astype(np.float32)
FLOOR = float((np.log(1e-5) + 7) / 2)


@pytest.fixture(scope="module")
def build():
    whole = AcousticSimulator(Conditions(**PLAIN), MEL, level=UNSAID.level)  # its noises take a moment

    def make(**changes):
        whole.how = Conditions(**(PLAIN | changes))
        return whole

    return make


def rng(seed=0):
    return np.random.default_rng(seed)


def test_nothing_asked_for_changes_nothing(build):
    recorded = build()(CLIP, rng())
    np.testing.assert_array_equal(recorded.mel, CLIP)
    assert (recorded.lead, recorded.trail, recorded.has_speech) == (0, 0, True)


def test_silence_goes_around_a_clip(build):
    recorded = build(margin=0.3)(CLIP, rng(1))
    assert 0 <= recorded.lead <= 30 and 0 <= recorded.trail <= 30 and recorded.lead + recorded.trail > 0
    assert len(recorded.mel) == 150 + recorded.lead + recorded.trail
    np.testing.assert_array_equal(recorded.mel[recorded.lead :][:150], CLIP)
    np.testing.assert_allclose(recorded.mel[: recorded.lead], FLOOR, atol=1e-5)


@pytest.mark.parametrize("distance", [10.0, 30.0])
def test_noise_is_as_far_below_the_voice_as_noise_added_to_its_waveform(build, distance):
    """A voice of a known RMS, levelled, and white noise of a known RMS under it: the mel of their sum has the noise where the
    simulator lays it."""
    time = np.arange(32000) / 16000
    wave = sum(np.sin(2 * np.pi * 130 * k * time) / k**0.7 for k in range(1, 30)) * np.clip(
        np.sin(8 * np.pi * time), 0, 1
    )
    wave = 0.05 * torch.from_numpy(wave).float()
    noise = torch.from_numpy(rng().normal(size=32000)).float() * wave.square().mean().sqrt() * 10 ** (-distance / 20)
    hear = Hearing(MEL, UNSAID)
    quiet = hear(wave).mel.numpy() < -1.5  # where noise is all there is
    added = denormalise_log(hear(wave + noise).mel).numpy()[quiet]
    simulate = build(noise=1.0, snr=[distance, distance])
    simulate.noises, all_noises = simulate.noises[:1], simulate.noises
    laid = denormalise_log(torch.from_numpy(simulate(hear(wave).mel.numpy(), rng(3)).mel)).numpy()[quiet]
    simulate.noises = all_noises
    assert abs(20 * np.log10(np.sqrt((laid**2).mean() / (added**2).mean()))) < 4.0  # 3 of them are the swell


def test_noise_never_takes_anything_away_and_is_a_function_of_its_generator(build):
    simulate = build(noise=1.0)
    once = simulate(CLIP, rng(5)).mel
    np.testing.assert_array_equal(once, simulate(CLIP, rng(5)).mel)
    assert (once >= CLIP - 1e-5).all() and np.isfinite(once).all() and once.dtype == np.float32
    assert not np.array_equal(once, simulate(CLIP, rng(6)).mel)


def test_a_telephone_has_no_high_frequencies(build):
    simulate = build(telephone=1.0)
    for seed in range(4):
        mel = simulate(CLIP, rng(seed)).mel
        np.testing.assert_allclose(mel[:, simulate.centres > 4200], FLOOR, atol=1e-5)
        inside = (simulate.centres > 400) & (simulate.centres < 3100)
        np.testing.assert_array_equal(mel[:, inside], CLIP[:, inside])


def test_a_clip_without_a_voice_holds_nothing_of_it(build):
    recorded = build(silence=1.0)(CLIP, rng())
    assert not recorded.has_speech
    assert abs(np.corrcoef(recorded.mel.ravel(), CLIP.ravel())[0, 1]) < 0.1


def test_shares_and_ranges_are_checked():
    for wrong in ({"noise": 1.5}, {"telephone": -1}, {"snr": [40.0, 10.0]}, {"snr": [3.0]}, {"margin": -1.0}):
        with pytest.raises(ValueError, match=rf"datamodule\.conditions.*{next(iter(wrong))}"):
            Conditions(**(PLAIN | wrong))
    with pytest.raises(ValueError, match=r"give datamodule\.hearing"):
        simulator_for(Conditions(**PLAIN), MEL, None)


def test_fixed_recordings_know_their_lengths_and_never_change(build):
    frames = np.concatenate([CLIP, CLIP[:70]]).astype(np.float16)
    store = FixedConditions(
        MelCache(frames=frames, ends=np.array([150, 150, 220])), build(margin=0.3, noise=0.5), seed=3
    )
    assert store.lengths[1] == 0
    for index in (0, 2):
        assert len(store[index]) == store.lengths[index] > (150, 0, 70)[index]
        np.testing.assert_array_equal(store[index], store[index])


def sample(core, lead, trail):
    return SpeechSample(
        mel=np.arange(core + lead + trail, dtype=np.float32)[:, None], characters=np.zeros(0), speaker=0, text="", audio="",
        sample_id="", lead=lead, trail=trail,
    )  # fmt: skip


def test_silence_takes_the_room_of_a_batch_and_no_more():
    long, short = sample(100, 30, 10), sample(80, 30, 10)
    mels = fit_silence([long, short])
    assert [len(mel) for mel in mels] == [100, 100]
    assert mels[0][0, 0] == 30  # the clip itself is whole
    assert mels[1][0, 0] == 15 and mels[1][-1, 0] == 114
    assert [len(mel) for mel in fit_silence([sample(100, 0, 0), sample(50, 5, 0)])] == [100, 55]
