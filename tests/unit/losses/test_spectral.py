"""Spectral losses."""

import math

import pytest
import torch

from muomni.losses.spectral import magnitudes, spectral_loss


def sine(frequency=1000.0, level=1.0):
    return level * torch.sin(2 * torch.pi * frequency * torch.arange(8000) / 16000)[None]


@pytest.mark.parametrize("n_fft", [256, 1024])
def test_a_full_scale_sine_reads_one(n_fft):
    assert float(magnitudes(sine(), n_fft=n_fft)[:, :, 8:-8].max()) == pytest.approx(1.0, rel=0.02)


def test_equal_sounds_are_at_no_distance_and_have_a_finite_gradient():
    sound = sine().requires_grad_()
    loss = spectral_loss(sound, sine(), n_ffts=(256, 512))
    assert float(loss.detach()) == 0.0
    loss.backward()
    assert torch.isfinite(sound.grad).all()


def test_half_the_level_costs_what_it_should():
    """ln 2 where the sound is over the floor, and a spectral convergence of one half."""
    noise = 0.1 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    assert float(spectral_loss(0.5 * noise, noise, n_ffts=(256,))) == pytest.approx(math.log(2) + 0.5, rel=1e-3)


def test_the_phase_does_not_count():
    assert float(spectral_loss(-sine(), sine(), n_ffts=(256, 512))) == pytest.approx(0.0, abs=1e-6)
