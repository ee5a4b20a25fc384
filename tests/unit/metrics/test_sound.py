"""Metrics of sounds."""

import pytest
import torch

from muomni.metrics import sound
from muomni.metrics.sound import match_level, need_stoi, stoi


def speech(samples=32000):
    time = torch.arange(samples) / 16000
    level = torch.sin(5 * time).square() + 0.05
    return level * sum(torch.sin(2 * torch.pi * 130 * k * time) / k for k in range(1, 25))


def test_levels_become_equal():
    made, recorded = 3 * torch.randn(100), torch.randn(100)
    assert float(match_level(made, recorded).square().mean()) == pytest.approx(
        float(recorded.square().mean()), rel=1e-4
    )
    assert not match_level(torch.zeros(10), recorded[:10]).any()


def test_stoi_falls_with_noise_and_does_not_mind_the_level():
    clip = speech()
    noise = torch.randn(len(clip), generator=torch.Generator().manual_seed(0))
    scores = [stoi(clip + level * noise, clip, sample_rate=16000) for level in (0.0, 0.3, 3.0)]
    assert scores[0] == pytest.approx(1.0, abs=1e-3) and scores[0] > scores[1] > scores[2]
    assert stoi(0.1 * clip, clip, sample_rate=16000) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.filterwarnings("ignore:Not enough STFT frames")
def test_a_clip_with_too_little_speech_has_none():
    clip = speech(3000)
    assert stoi(clip, clip, sample_rate=16000) is None


def test_a_missing_package_is_named(monkeypatch):
    need_stoi()
    monkeypatch.setattr(sound, "_PYSTOI_AVAILABLE", False)
    with pytest.raises(ValueError, match="pystoi, which is not installed"):
        need_stoi()
