"""What encoders of others read in the mel's place, against transformers' feature extractors."""

import pytest
import torch

from datamodules.conditions import Conditions, simulator_for
from muomni.frontends.hearing import Hearing, HearingSpec
from muomni.frontends.mel import LogMel, MelSpec
from muomni.frontends.pretrained_audio import audio_frontend

WHISPER = MelSpec(
    sample_rate=16000, hop=160, n_fft=400, win=400, bins=80, f_min=0.0, f_max=8000.0, log=True, floor=1e-10,
    kind="whisper", window=32000,
)  # fmt: skip
FRAMES = MelSpec(
    sample_rate=16000, hop=320, n_fft=400, win=400, bins=400, f_min=0.0, f_max=8000.0, log=False, floor=1e-7,
    kind="unit_waveform",
)  # fmt: skip
HEARING = HearingSpec(level=-7.0, margin=0.25, pause=0.5, threshold=4.0, edge=1.5)


@pytest.mark.parametrize("samples", [160, 500, 16000, 31390, 31601, 31999, 32000])
def test_whispers_mel_is_its_feature_extractors(samples):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    clip = torch.randn(samples) * 0.05 + torch.sin(torch.arange(samples) * 0.3) * 0.2
    expected = transformers.WhisperFeatureExtractor(chunk_length=2)(clip.numpy(), sampling_rate=16000)
    mel, whole = audio_frontend(WHISPER)(clip), torch.from_numpy(expected.input_features[0]).T
    assert len(mel) == WHISPER.num_frames(samples)
    assert (mel - whole[: len(mel)]).abs().max() < 1e-4
    if len(mel) < len(whole):  # the rest of the window is the silence that the encoder puts there
        assert bool((whole[len(mel) :] == whole[-1, -1]).all())
        assert float(whole[-1, -1]) == pytest.approx(max(-1.5, float(mel.max()) - 2.0), abs=1e-5)


def test_whispers_windows_are_prepared_one_by_one():
    torch.manual_seed(0)
    clip = torch.cat([torch.randn(32000), torch.randn(5000) * 0.01])
    mel = audio_frontend(WHISPER)(clip)
    parts = [audio_frontend(WHISPER)(part) for part in clip.split(32000)]
    assert torch.equal(mel, torch.cat(parts)) and len(parts[0]) == 200
    assert WHISPER.num_frames(len(clip)) == len(mel)


def test_frames_of_a_waveform_overlap_and_drop_what_no_frame_covers():
    transformers = pytest.importorskip("transformers")
    clip = torch.randn(400 + 320 * 9 + 319) * 0.1 + 0.5
    frames = audio_frontend(FRAMES)(clip)
    expected = transformers.Wav2Vec2FeatureExtractor()(clip.numpy(), sampling_rate=16000).input_values[0]
    assert frames.shape == (10, 400) and FRAMES.num_frames(len(clip)) == 10
    assert (frames[3] - torch.from_numpy(expected)[960:1360]).abs().max() < 1e-5
    assert torch.equal(frames[0, 320:], frames[1, :80])
    for short in (399, 159):
        with pytest.raises(ValueError, match="the clip is too short: .* one frame needs 400"):
            audio_frontend(FRAMES)(clip[:short])


def test_what_measures_levels_needs_a_log_mel():
    for spec in (WHISPER, FRAMES):
        assert Hearing(spec, None)(torch.randn(16000)).trimmed().shape[1] == spec.bins
        with pytest.raises(ValueError, match="hearing measures levels in a log-mel.*hearing=null"):
            Hearing(spec, HEARING)
        with pytest.raises(ValueError, match="input of an encoder alone"):
            LogMel(spec)
        conditions = Conditions(noise=0.1, snr=[0.0, 1.0], telephone=0.0, silence=0.0, margin=0.0)
        with pytest.raises(ValueError, match="datamodule.conditions are mixed in a log-mel"):
            simulator_for(conditions, spec, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "mfcc"}, "unknown kind 'mfcc'; available: log_mel, whisper, waveform, unit_waveform"),
        ({"window": None}, "whisper has a window"),
        ({"kind": "log_mel"}, "and it alone"),
        ({"window": 32001}, "no multiple of hop=160"),
    ],
)
def test_specs_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MelSpec(**(WHISPER.metadata() | options))
