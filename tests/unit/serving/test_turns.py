"""Where a speaker begins and ends."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muomni.inference.asr.turns import RATE, EnergyGate, TurnDetector
from muomni.serving.errors import ApiError
from muomni.serving.realtime.input_audio import MOST_SECONDS, InputAudio
from muomni.serving.realtime.schema import AudioInput, Format


def noise(seconds, level, seed=0):
    """Seconds of noise at a level in dB of full scale."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(round(seconds * RATE), generator=generator) * 10 ** (level / 20)


def borders(samples, block=1000, **options):
    detector = TurnDetector(EnergyGate(threshold=0.5), **({"silence": 500, "padding": 300} | options))
    found = [turn for start in range(0, len(samples), block) for turn in detector.push(samples[start : start + block])]
    return [(turn.event, turn.sample / RATE) for turn in found]


@pytest.mark.parametrize("background", [-90, -60, -45, -35])
def test_speech_stands_out_of_any_background(background):
    sound = noise(6, background)
    sound[2 * RATE : 3 * RATE] += noise(1, background + 25 if background > -60 else -30, seed=1)
    (start, begun), (stop, ended) = [
        each for each in borders(sound) if each[1] > 1
    ]  # before, the background is not known
    assert (start, stop) == ("started", "stopped")
    assert 1.55 < begun < 1.8  # 2 s less the padding
    assert 3.45 < ended < 3.6  # 3 s and the silence


@pytest.mark.parametrize("level", [-90, -50, -30, -10])
def test_a_steady_noise_is_no_speech(level):
    assert [each for each in borders(noise(8, level)) if each[1] > 1] == []


def test_a_click_is_no_turn():
    sound = noise(3, -80)
    sound[RATE : RATE + 100] += 0.5
    assert borders(sound) == []


def test_a_pause_shorter_than_the_silence_does_not_end_a_turn():
    sound = torch.cat([noise(1, -80), noise(1, -20), noise(0.3, -80), noise(1, -20), noise(1, -80)])
    assert [event for event, _ in borders(sound)] == ["started", "stopped"]
    assert len(borders(sound, silence=100)) == 4


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(100, 5000), min_size=1, max_size=40))
def test_borders_do_not_depend_on_how_the_sound_comes(blocks):
    sound = torch.cat([noise(1, -80), noise(1, -20), noise(1, -80)])
    detector = TurnDetector(EnergyGate(threshold=0.5), silence=500, padding=300)
    found, start = [], 0
    while start < len(sound):
        size = blocks[start % len(blocks)]
        found += [(turn.event, turn.sample / RATE) for turn in detector.push(sound[start : start + size])]
        start += size
    assert found == borders(sound)


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_a_turn_is_what_was_said_with_its_padding(rate):
    audio = InputAudio(AudioInput(format=Format(rate=rate)), gate="energy")
    time = torch.arange(3 * rate) / rate
    sound = 0.001 * torch.randn(3 * rate, generator=torch.Generator().manual_seed(0))
    sound += (0.3 * torch.sin(2 * math.pi * 300 * time)) * ((time > 1) & (time < 2))
    started, taken = None, None
    for start in range(0, len(sound), 700):
        for border, _ in audio.append(sound[start : start + 700]):
            if border.event == "started":
                started = border
            else:
                taken = audio.take(started)
    assert taken is not None
    assert 1.5 < len(taken) / rate < 2.1
    places = (sound == taken[0]).nonzero()[:, 0].tolist()
    (place,) = [
        start for start in places if sound[start : start + len(taken)].equal(taken)
    ]  # the very samples, none lost
    assert 0.6 < place / rate < 0.8


def test_turns_that_come_in_one_block_are_all_found_and_nothing_is_lost():
    sound = torch.cat([noise(1, level, seed) for seed, level in enumerate((-80, -20, -80, -20, -80))])
    audio, started, taken = InputAudio(AudioInput(format=Format(rate=16_000)), gate="energy"), None, []
    for border, _ in audio.append(sound):
        if border.event == "started":
            started = border
        else:
            taken.append(audio.take(started, border))
    assert len(taken) == 2
    for samples, begin in zip(taken, (1, 3), strict=True):
        place = (sound == samples[0]).nonzero()[0, 0].item()
        assert begin - 0.5 < place / 16_000 < begin
        assert sound[place : place + len(samples)].equal(samples)
        assert len(samples) > 1.5 * 16_000


def test_the_clock_does_not_drift_with_the_size_of_the_blocks():
    audio = InputAudio(AudioInput(), gate="energy")
    silence, speech = torch.zeros(200), torch.randn(24_000, generator=torch.Generator().manual_seed(0)) / 10
    for _ in range(120 * 10):  # ten seconds in blocks that are no whole number of samples at 16 kHz
        list(audio.append(silence))
    ((border, milliseconds),) = [found for found in audio.append(speech) if found[0].event == "started"]
    assert 9_640 < milliseconds < 9_700
    place = (audio.take(border) == speech[0]).nonzero()[0, 0].item()
    assert 0.2 < place / 24_000 < 0.4


def test_silence_is_not_kept():
    audio = InputAudio(AudioInput(), gate="energy")
    for _ in range(50):
        list(audio.append(torch.zeros(24_000)))
    assert audio.length < 3 * 24_000


def test_a_turn_without_end_is_an_error_and_forgotten():
    audio = InputAudio(AudioInput(turn_detection=None), gate="energy")
    for _ in range(round(MOST_SECONDS)):
        list(audio.append(torch.zeros(24_000)))
    with pytest.raises(ApiError, match="a turn of more than"):
        list(audio.append(torch.zeros(24_000)))
    assert audio.length == 0
