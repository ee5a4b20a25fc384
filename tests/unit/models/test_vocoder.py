"""The vocoder: shapes, and a head that gives a sound back whose transforms it is given."""

import pytest
import torch

from muomni.checkpoints.export import load_export, save_export
from muomni.models.vocoder import FourierHead, Vocoder

SHAPE = {"n_mels": 16, "hop": 40, "overlap": 4, "width": 24, "num_layers": 2, "kernel": 3, "ff_dim": 32}


def test_a_mel_frame_is_hop_samples():
    model = Vocoder(**SHAPE)
    for frames in (1, 2, 9):
        assert model(torch.randn(3, frames, 16)).waveform.shape == (3, 40 * frames)


@pytest.mark.parametrize("overlap", [2, 4, 6])
def test_the_head_inverts_its_own_transform(overlap):
    """With the transforms of a sound's frames it gives that sound."""
    hop, T = 40, 12
    head = FourierHead(hop=hop, overlap=overlap)
    sound = 0.1 * torch.randn(1, T * hop)
    edge = (head.n_fft - hop) // 2
    frames = torch.nn.functional.pad(sound, (edge, edge)).unfold(1, head.n_fft, hop) * head.window
    spectrum = torch.fft.rfft(frames)
    made = head(spectrum.abs().clamp_min(1e-9).log(), spectrum.angle())
    torch.testing.assert_close(made, sound, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("overlap", [0, 1, 3])
def test_an_overlap_that_leaves_gaps_is_refused(overlap):
    with pytest.raises(ValueError, match="overlap must be even"):
        FourierHead(hop=40, overlap=overlap)


def test_magnitudes_are_bounded():
    head = FourierHead(hop=40, overlap=4)
    made = head(torch.full((1, 3, 81), 1e4), torch.zeros(1, 3, 81))
    assert torch.isfinite(made).all()


def test_it_looks_no_further_than_its_kernels():
    model = Vocoder(**SHAPE).eval()
    mel = torch.randn(1, 20, 16)
    other = mel.clone()
    other[:, 12:] += 1
    reach = 2 * (3 // 2) + 2  # two layers, and the overlap of the head
    before, after = model(mel).waveform, model(other).waveform
    torch.testing.assert_close(before[:, : (12 - reach) * 40], after[:, : (12 - reach) * 40])
    assert not torch.allclose(before[:, 12 * 40 :], after[:, 12 * 40 :])


def test_an_export_gives_the_same_sound(tmp_path):
    model = Vocoder(**SHAPE).eval()
    save_export(tmp_path / "vocoder", {"vocoder": model}, metadata={"stage": "vocoder"}, files={})
    mel = torch.randn(1, 5, 16)
    loaded = load_export(tmp_path / "vocoder").modules["vocoder"]
    torch.testing.assert_close(loaded(mel).waveform, model(mel).waveform)
