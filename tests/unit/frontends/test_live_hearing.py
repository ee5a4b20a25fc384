"""A log-mel in steps: frames of the whole, levels of what was heard so far."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muomni.frontends.hearing import Hearing, HearingSpec
from muomni.frontends.live_hearing import MARGIN, LiveHearing
from muomni.frontends.mel import MelSpec

MEL = MelSpec(sample_rate=16000, hop=160, n_fft=512, win=400, bins=32, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)
SPEC = HearingSpec(level=-7.0, margin=0.25, pause=0.5, threshold=4.0, edge=1.5)


def noise(seconds, level, seed=0):
    return torch.randn(round(seconds * 16000), generator=torch.Generator().manual_seed(seed)) * 10 ** (level / 20)


def voice(seconds, level):
    """A tone of syllables: it rises and falls."""
    time = torch.arange(round(seconds * 16000)) / 16000
    tones = sum(torch.sin(2 * math.pi * 150 * k * time) / k for k in range(1, 20))
    return tones * (0.55 + 0.45 * torch.sin(2 * math.pi * 4 * time)) * 10 ** (level / 20)


def steps_of(live, waveform, *, first, step, cuts=()):
    mels = []
    for piece in torch.tensor_split(waveform, sorted(cut % (len(waveform) + 1) for cut in cuts)):
        live.push(piece)
        while live.has(frames := step if mels else first):
            mels.append(live.take(frames))
    return [*mels, live.rest()]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 20000), st.lists(st.integers(0, 20000), max_size=8), st.integers(1, 60), st.integers(1, 60),
    st.integers(0, 9),
)  # fmt: skip
def test_frames_are_those_of_the_whole(samples, cuts, first, step, seed):
    waveform = noise(samples / 16000, -20, seed)
    mel = torch.cat(steps_of(LiveHearing(Hearing(MEL, None)), waveform, first=first, step=step, cuts=cuts))
    assert len(mel) == samples // 160
    if len(mel):
        torch.testing.assert_close(mel, Hearing(MEL, None)(waveform).mel, atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(0, 50000), max_size=20))
def test_how_samples_come_does_not_change_a_bit(cuts):
    waveform = torch.cat([noise(0.5, -60), voice(2, -20) + noise(2, -60), noise(0.5, -60)])
    expected = torch.cat(steps_of(LiveHearing(Hearing(MEL, SPEC)), waveform, first=56, step=40))
    came = torch.cat(steps_of(LiveHearing(Hearing(MEL, SPEC)), waveform, first=56, step=40, cuts=cuts))
    assert torch.equal(came, expected)


@pytest.mark.parametrize("level", [-10, -40])
def test_a_voice_comes_to_the_level_that_the_whole_recording_gives_it(level):
    waveform = torch.cat([noise(0.4, level - 45), voice(3, level)]) + noise(3.4, level - 45, seed=1) + 0.01  # an offset
    mels = steps_of(LiveHearing(Hearing(MEL, SPEC)), waveform, first=56, step=40)
    whole, came = Hearing(MEL, SPEC)(waveform).mel, torch.cat(mels)
    off = (came - whole).abs().mean(1) * 2 * 20 / math.log(10)  # dB: the log-mel is divided by 2
    assert off[56:].mean() < 1.5
    assert off[60:].max() < 6


@pytest.mark.parametrize("level", [-20, -60])
def test_a_background_is_not_taken_for_a_voice(level):
    background = torch.cat(steps_of(LiveHearing(Hearing(MEL, SPEC)), noise(3, level), first=56, step=40))
    as_a_voice = Hearing(MEL, SPEC)(noise(3, level)).mel
    quieter = float((as_a_voice - background).mean()) * 2 * 20 / math.log(10)
    assert MARGIN - 5 < quieter < MARGIN + 1


def test_silence_and_nothing():
    live = LiveHearing(Hearing(MEL, SPEC))
    assert live.rest().shape == (0, 32)
    live.push(torch.zeros(8000))
    assert live.take(20).isfinite().all()
    assert live.rest().shape == (30, 32)


def test_an_input_that_is_no_log_mel_is_refused():
    waveform = MelSpec(
        sample_rate=16000, hop=320, n_fft=400, win=400, bins=400, f_min=0.0, f_max=8000.0, log=False, floor=1e-7,
        kind="waveform",
    )  # fmt: skip
    with pytest.raises(ValueError, match="mel.kind=waveform cannot be computed step by step"):
        LiveHearing(Hearing(waveform, None))
