"""Pitch of made voices, and who has two."""

import math

import pytest
import torch

from muomni.frontends.pitch import RATE, pitches, two_voices


def voice(hertz, seconds, glide=0.0):
    """Harmonics of a pitch that rises by `glide` semitones and falls again twice a second."""
    t = torch.arange(int(seconds * RATE)) / RATE
    pitch = hertz * 2 ** (glide / 12 * torch.sin(4 * math.pi * t).abs())
    phase = 2 * math.pi * torch.cumsum(pitch, 0) / RATE
    return 0.2 * sum(torch.sin(k * phase) / k for k in range(1, 9))


@pytest.mark.parametrize("hertz", [80.0, 120.0, 210.0, 320.0])
def test_the_pitch_of_a_tone(hertz):
    found = pitches(voice(hertz, 0.5))
    assert (found > 0).all()
    assert (found / hertz - 1).abs().max() < 0.05  # a lag is a whole number of samples


def test_noise_and_silence_have_none():
    assert not pitches(torch.zeros(4000)).any() and not len(pitches(torch.zeros(10)))
    noise = torch.randn(8000, generator=torch.Generator().manual_seed(0))
    assert (pitches(noise) > 0).float().mean() < 0.05
    quiet = torch.cat([voice(120, 0.5), 1e-3 * voice(200, 0.5)])
    assert not pitches(quiet)[30:].any(), "a hum far below the voice"


def test_a_lively_reader_is_one_voice_and_a_man_and_a_woman_are_two():
    assert two_voices(pitches(voice(110, 6, glide=10))) is None
    low, high = two_voices(pitches(torch.cat([voice(105, 3, glide=2), voice(220, 3, glide=2)])))
    assert low == pytest.approx(112, rel=0.1) and high == pytest.approx(235, rel=0.1)


def test_two_men_and_too_little_of_the_second_cannot_be_told():
    assert two_voices(pitches(torch.cat([voice(100, 3), voice(125, 3)]))) is None
    assert two_voices(pitches(torch.cat([voice(105, 5), voice(220, 0.6)]))) is None
    assert two_voices(pitches(voice(105, 1))) is None
