"""Which vocoder speaks, and that it is said."""

import dataclasses

import pytest
import torch

from muomni.checkpoints.export import save_export
from muomni.frontends.loudness import PEAK
from muomni.inference.load import load_model
from muomni.inference.tts.griffin_lim import GriffinLim
from muomni.inference.tts.mel_correction import MelCorrection
from muomni.inference.tts.vocoder import NeuralVocoder, choose_vocoder
from muomni.models.vocoder import Vocoder
from tests.unit.inference.conftest import MEL


def save(folder, spec=MEL, corrections=2):
    torch.manual_seed(0)
    model = Vocoder(n_mels=spec.bins, hop=spec.hop, overlap=4, width=16, num_layers=1, kernel=3, ff_dim=16)
    metadata = {"stage": "vocoder", "codec_mel": spec.metadata(), "corrections": corrections}
    return save_export(folder, {"vocoder": model}, metadata=metadata, files={})


def choose(choice, beside):
    return choose_vocoder(choice, spec=MEL, export=beside, device="cpu")


def test_without_a_trained_one_griffin_lim_speaks_and_it_is_said(tmp_path):
    vocoder, note = choose("auto", tmp_path / "talker")
    assert isinstance(vocoder, GriffinLim)
    assert note == f"vocoder: griffin_lim (there is no {tmp_path}/vocoder: python train.py stage=vocoder)"


def test_one_beside_the_export_speaks(tmp_path):
    folder = save(tmp_path / "vocoder")
    vocoder, note = choose("auto", tmp_path / "talker")
    assert isinstance(vocoder, NeuralVocoder) and vocoder.name == str(folder) and note == f"vocoder: {folder}"
    vocoder, note = choose("griffin_lim", tmp_path / "talker")
    assert isinstance(vocoder, GriffinLim) and note == "vocoder: griffin_lim"


def test_one_of_another_spectrogram_does_not_and_it_is_said(tmp_path):
    folder = save(tmp_path / "vocoder", spec=dataclasses.replace(MEL, f_min=50.0))
    vocoder, note = choose("auto", tmp_path / "talker")
    assert isinstance(vocoder, GriffinLim) and "was trained on another spectrogram" in note
    with pytest.raises(ValueError, match="codec_mel differs"):
        choose(folder, tmp_path / "talker")


def test_a_named_one_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vocoder=nowhere: no export there; griffin_lim, auto, or"):
        choose("nowhere", tmp_path)
    named = save(tmp_path / "elsewhere")
    assert choose(named, tmp_path / "a" / "talker")[1] == f"vocoder: {named}"


def test_its_sound_is_that_of_model_and_correction(tmp_path):
    vocoder = NeuralVocoder.from_export(save(tmp_path / "vocoder", corrections=3), spec=MEL)
    mel = torch.randn(2, 20, MEL.bins)
    made = vocoder(mel)
    assert made.shape == (2, 3200)
    torch.testing.assert_close(made.abs().amax(1), torch.full((2,), PEAK))
    torch.testing.assert_close(vocoder(mel[0]), made[0], atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        raw = MelCorrection(MEL)(vocoder.model(mel).waveform, mel, iterations=3)
    torch.testing.assert_close(made, raw * (PEAK / raw.abs().amax(1, keepdim=True)))


def test_it_goes_on_behind_what_was_made(tmp_path):
    """The samples behind the past, as long as Griffin-Lim's; the past is a part of what they are fitted to."""
    vocoder = NeuralVocoder.from_export(save(tmp_path / "vocoder"), spec=MEL)
    griffin_lim = GriffinLim(MEL, iterations=2)
    mel = torch.randn(60, MEL.bins)
    for past in (torch.zeros(0), 0.1 * torch.randn(vocoder.context * MEL.hop)):
        for ends in (True, False):
            made = vocoder.extend(mel, past, ends=ends)
            assert made.shape == griffin_lim.extend(mel, past, ends=ends).shape
            assert torch.isfinite(made).all()
    quiet, loud = (vocoder.extend(mel, level * past, ends=True) for level in (1.0, 3.0))
    assert not torch.allclose(quiet[:200], loud[:200])


def test_alone_a_piece_is_made_as_in_the_whole(tmp_path):
    """`context` is as far as it looks: with that much on both sides the network's samples are the whole's."""
    vocoder = NeuralVocoder.from_export(save(tmp_path / "vocoder", corrections=0), spec=MEL)
    mel, C = torch.randn(90, MEL.bins), vocoder.context
    whole = vocoder.model(mel[None]).waveform[0]
    piece = vocoder.extend(mel[30 - C : 60 + C], torch.zeros(0), ends=True)
    torch.testing.assert_close(piece[C * 160 : -C * 160], whole[30 * 160 : 60 * 160], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mel", [torch.zeros(0, 32), torch.zeros(5, 31), torch.full((5, 32), torch.nan)])
def test_what_cannot_sound_is_refused(mel, tmp_path):
    vocoder = NeuralVocoder.from_export(save(tmp_path / "vocoder"), spec=MEL)
    with pytest.raises(ValueError, match="vocoder: "):
        vocoder(mel)


def test_an_engine_speaks_with_it_and_its_statistics_name_it(export, tmp_path):
    named = save(tmp_path / "vocoder")
    sounds = {}
    for choice in (named, "griffin_lim"):
        engine = load_model(export, device="cpu", vocoder=choice)
        (spoken,) = engine.speak(["a red circle"])
        sounds[choice] = spoken.waveform
        assert engine.vocoder_note == f"vocoder: {choice}"
        assert spoken.timings.lines()[-1].endswith(f"vocoder {choice}")
    a, b = sounds.values()
    assert a.shape == b.shape and not torch.allclose(a, b)
