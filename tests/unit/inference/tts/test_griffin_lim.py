"""The search by groups of mel bins, clip by clip, is that of whole products and batches."""

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from muomni.frontends.loudness import SMALLEST
from muomni.frontends.mel import LogMel, MelSpec, denormalise_log
from muomni.inference.tts.griffin_lim import SHARPENING_STEPS, GriffinLim


def spec_of(bins, f_min, f_max, n_fft=512, win=400):
    return MelSpec(
        sample_rate=16000, hop=160, n_fft=n_fft, win=win, bins=bins, f_min=f_min, f_max=f_max, log=True, floor=1e-5
    )


def voice(seconds, seed=0):
    time = torch.arange(round(16000 * seconds)) / 16000
    tones = sum(torch.sin(2 * torch.pi * 130 * k * time) / k for k in range(1, 12))
    return 0.1 * tones + 0.01 * torch.randn(len(time), generator=torch.Generator().manual_seed(seed))


def dense_magnitudes(vocoder, mel):
    """The multiplicative updates by whole matrices, at the mel's own frequencies."""
    target = denormalise_log(mel) * vocoder.scale
    filters = vocoder.filters
    magnitude, overlap = (target @ vocoder.inverse).clamp_min(SMALLEST), filters.sum(dim=1)
    for _ in range(SHARPENING_STEPS):
        ratio = target / (magnitude @ filters).clamp_min(SMALLEST)
        magnitude = torch.where(overlap > 0, magnitude * (ratio @ filters.T) / overlap.clamp_min(SMALLEST), magnitude)
    return torch.cat([magnitude, magnitude[:, -1:]], dim=1)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.sampled_from([0.0, 20.0, 300.0, 3000.0]), st.sampled_from([3500.0, 6000.0, 8000.0]))
def test_groups_of_bins_have_the_magnitudes_of_all_at_once(bins, f_min, f_max):
    spec = spec_of(bins, f_min, f_max)  # n_fft is the length of the search: the same frequencies
    try:
        vocoder = GriffinLim(spec, iterations=1)
    except ValueError:  # a filter would be empty
        assume(False)
    mel = LogMel(spec)(torch.stack([voice(0.2), voice(0.2, seed=1)]))
    torch.testing.assert_close(vocoder.magnitudes(mel), dense_magnitudes(vocoder, mel), rtol=1e-4, atol=1e-5)


def test_a_batch_is_its_clips():
    spec = spec_of(40, 0.0, 8000.0, n_fft=1024)
    vocoder = GriffinLim(spec, iterations=4)
    mel = LogMel(spec)(torch.stack([voice(0.3), voice(0.3, seed=1)]))
    together = vocoder(mel)
    assert all(torch.equal(row, vocoder(each)) for row, each in zip(together, mel, strict=True))


def test_more_iterations_are_nearer_to_the_mel():
    spec = spec_of(40, 0.0, 8000.0, n_fft=1024)
    frontend = LogMel(spec)
    mel = frontend(voice(0.5))

    def error(iterations):
        found = frontend.magnitudes(GriffinLim(spec, iterations=iterations)(mel)[None])
        wanted = denormalise_log(mel)[None]
        gain = (wanted * found).sum() / found.square().sum()
        return float((gain * found - wanted).norm() / wanted.norm())

    assert error(16) < 0.8 * error(1)
