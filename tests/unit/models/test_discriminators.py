"""Discriminators: what each sees."""

import pytest
import torch

from muomni.models.discriminators import Discriminators, PeriodDiscriminator, SpectrogramDiscriminator


def test_every_period_and_resolution_judges():
    model = Discriminators(periods=(2, 3), n_ffts=(64, 128), period_channels=(4, 8), spectrogram_channels=(4, 4))
    judgements = model(torch.randn(2, 999))
    assert len(judgements) == 4
    assert all(torch.isfinite(each.scores).all() and len(each.features) == 2 for each in judgements)
    sum(each.scores.mean() for each in judgements).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("period", [2, 3, 5])
def test_samples_of_different_phase_never_meet(period):
    model = PeriodDiscriminator(period=period, channels=(4, 8))
    sound = torch.randn(1, 30 * period)
    other = sound.clone()
    other[:, 1::period] += 1.0
    before, after = model(sound).scores, model(other).scores  # one row a phase
    changed = [not torch.allclose(a, b) for a, b in zip(before, after, strict=True)]
    assert changed == [phase == 1 for phase in range(period)]


def test_a_spectrogram_is_seen_with_its_phase():
    model = SpectrogramDiscriminator(n_fft=64, channels=(4,))
    sound = torch.randn(1, 640)
    assert not torch.allclose(model(sound).scores, model(-sound).scores)  # equal magnitudes
