"""The correction of mels: the mel comes near, the phases come into agreement."""

import dataclasses

import pytest
import torch

from muomni.frontends.mel import LogMel, MelSpec
from muomni.inference.tts.mel_correction import MelCorrection

SPEC = MelSpec(sample_rate=16000, hop=160, n_fft=1024, win=400, bins=40, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)
HOP1280 = dataclasses.replace(SPEC, hop=1280, n_fft=4096, win=4096)


def voice(samples=12800):
    """Two seconds of a hundred-hertz buzz whose pitch and level move."""
    time = torch.arange(samples) / 16000
    phase = 2 * torch.pi * (110 * time + 3 * torch.sin(4 * time))
    buzz = sum(torch.sin(k * phase) / k for k in range(1, 30))
    return (0.1 + 0.1 * torch.sin(9 * time).square()) * buzz


def distance(waveform, mel, spec=SPEC):
    return float((LogMel(spec)(waveform) - mel).abs().mean())


def test_no_iteration_changes_nothing():
    clip = voice()[None]
    assert MelCorrection(SPEC)(clip, LogMel(SPEC)(clip), iterations=0) is clip


@pytest.mark.parametrize(
    "spec", [SPEC, HOP1280, dataclasses.replace(SPEC, log=False)], ids=["100 Hz", "12.5 Hz", "plain"]
)
def test_what_is_right_already_stays(spec):
    clip = voice()[None]
    made = MelCorrection(spec)(clip, LogMel(spec)(clip), iterations=3)
    assert made.shape == clip.shape
    inside = slice(spec.win, -spec.win)  # the last frame is one that the mel does not hold
    torch.testing.assert_close(made[:, inside], clip[:, inside], atol=2e-3, rtol=0)


def test_a_wrong_level_and_colour_are_set_right():
    clip = voice()
    mel = LogMel(SPEC)(clip)
    muffled = 0.3 * (clip + clip.roll(1))
    corrected = MelCorrection(SPEC)(muffled[None], mel[None], iterations=1)[0]
    assert distance(corrected, mel) < 0.1 * distance(muffled, mel)


def test_noise_comes_nearer_with_each_iterations():
    mel = LogMel(SPEC)(voice())
    noise = 0.01 * torch.randn(1, 12800, generator=torch.Generator().manual_seed(0))
    distances = [distance(MelCorrection(SPEC)(noise, mel[None], iterations=n)[0], mel) for n in (0, 1, 4, 16)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.25 * distances[1]


def test_a_gradient_passes_through():
    clip = (voice(3200) + 0.01 * torch.randn(3200))[None].requires_grad_()
    MelCorrection(SPEC)(clip, LogMel(SPEC)(voice(3200))[None], iterations=2).square().sum().backward()
    assert torch.isfinite(clip.grad).all() and clip.grad.abs().sum() > 0


def test_silence_stays_quiet():
    silence = torch.zeros(1, 3200)
    made = MelCorrection(SPEC)(silence, LogMel(SPEC)(silence), iterations=4)
    assert torch.isfinite(made).all() and made.abs().max() < 1e-4
