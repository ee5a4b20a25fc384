"""Sound is heard alike at any level, in any channel and with any silence around it; noise of any colour is no speech."""

import dataclasses

import numpy as np
import pytest
import soundfile
import torch

from muomni.frontends.audio_io import decode_audio, read_audio
from muomni.frontends.hearing import UNSAID, Hearing, hearing_of
from muomni.frontends.mel import LogMel, MelSpec

MEL = MelSpec(sample_rate=16000, hop=160, n_fft=1024, win=400, bins=64, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)
HEAR = Hearing(MEL, UNSAID)
RATE = 16000


def voice(seconds=2.0, pause=None, seed=0):
    """Syllables of a voice of 120 Hz with moving formants; `pause`: (from, to) seconds of silence in it."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * 120 * k * time) / k**0.7 for k in range(1, 30))
    syllables = np.clip(np.sin(2 * np.pi * 4 * time + rng.random()), 0, 1) ** 0.5
    hiss = 0.3 * rng.normal(size=len(time)) * (np.sin(2 * np.pi * 1.7 * time) > 0.7)
    wave = 0.02 * (wave * syllables + hiss)
    if pause is not None:
        wave[round(pause[0] * RATE) : round(pause[1] * RATE)] = 0.0
    return torch.from_numpy(wave).float()


def noise(colour, seconds, seed=0):
    """White noise whose amplitude falls with a power of frequency, of RMS 1."""
    count = round(seconds * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=count))
    wave = np.fft.irfft(spectrum / np.arange(1, len(spectrum) + 1) ** colour, count)
    return torch.from_numpy(wave / wave.std()).float()


def padded(wave, before, behind):
    return torch.nn.functional.pad(wave, (round(before * RATE), round(behind * RATE)))


@pytest.mark.parametrize("decibels", [-40, -20, 6])
def test_a_level_changes_nothing(decibels):
    clip = voice()
    torch.testing.assert_close(HEAR(clip * 10 ** (decibels / 20)).mel, HEAR(clip).mel, atol=0.05, rtol=0)


@pytest.mark.parametrize(("before", "behind"), [(0, 10), (0.5, 0.5), (10, 0), (7.3, 2.1)])
def test_silence_around_is_left_away_but_for_a_margin(before, behind):
    clip = voice()
    heard = HEAR(padded(clip, before, behind))
    ((begin, end),) = heard.spans
    assert 0 <= before * 100 - begin <= 30 and 0 <= end - (before * 100 + 200) <= 30
    inside = heard.mel[round(before * 100) :][:200]
    torch.testing.assert_close(
        inside[5:-5, 4:], HEAR(clip).mel[5:-5, 4:], atol=0.1, rtol=0
    )  # but for the offset's bins


def test_noise_at_20_db_moves_neither_the_level_nor_the_place():
    clip = padded(voice(), 3, 3)
    rms = float(voice().square().mean().sqrt())
    noisy = HEAR(clip + 0.1 * rms * noise(0, 8))
    assert abs(noisy.spans[0][0] - 300) < 40 and abs(noisy.spans[-1][1] - 500) < 40
    loud = HEAR(clip).mel[300:500] > -1.0
    assert float((noisy.mel[300:500] - HEAR(clip).mel[300:500])[loud].abs().mean()) < 0.2


@pytest.mark.parametrize("colour", [0, 0.5, 1.0, -0.3])
@pytest.mark.parametrize("decibels", [-200, -80, -50, -20])
def test_noise_is_no_speech(colour, decibels):
    assert not HEAR(10 ** (decibels / 20) * noise(colour, 6.0)).spans


def test_silence_hums_tones_and_clicks_are_no_speech():
    time = torch.arange(6 * RATE) / RATE
    click = torch.zeros(6 * RATE)
    click[40000] = 0.9
    hum = sum(0.01 / k * torch.sin(2 * np.pi * 60 * k * time) for k in range(1, 8))
    for sound in (
        0 * time,
        0 * time + 0.3,
        0.003 * torch.sin(2 * np.pi * 50 * time),
        hum,
        torch.sin(3000 * time),
        click,
    ):
        heard = HEAR(sound)
        assert not heard.spans
        assert len(heard.trimmed()) == len(heard.mel) == 600  # there is nothing better to give


def test_long_pauses_are_cut_out_and_short_ones_are_not():
    assert len(HEAR(voice(5.0, pause=(1.0, 1.4))).spans) == 1
    first, second = HEAR(voice(6.0, pause=(1.5, 4.0))).spans
    assert first[1] < 200 < 350 < second[0]


def test_an_offset_and_a_hum_do_not_count_as_loudness():
    clip = padded(voice(), 1, 1)
    time = torch.arange(len(clip)) / RATE
    plain, odd = HEAR(clip), HEAR(clip + 0.2 + 0.1 * torch.sin(2 * np.pi * 50 * time))
    assert abs(odd.spans[0][0] - plain.spans[0][0]) < 5
    voiced = plain.mel[100:300, 8:] > -1.0
    assert float((odd.mel - plain.mel)[100:300, 8:][voiced].abs().mean()) < 0.1


def test_short_clips_are_heard_whole():
    assert HEAR(0.1 * torch.randn(8000)).spans == [(0, 50)]


def test_long_recordings_are_computed_in_pieces_with_the_same_result(monkeypatch):
    wave = 0.1 * torch.randn(1, 40_000)
    whole = LogMel(MEL).magnitudes(wave)
    monkeypatch.setattr("muomni.frontends.mel.LONGEST_PIECE", 37)
    torch.testing.assert_close(LogMel(MEL).magnitudes(wave), whole, atol=1e-6, rtol=1e-5)


def test_exports_say_how_they_hear():
    spec = dataclasses.replace(UNSAID, margin=0.1)
    assert hearing_of({"hearing": spec.metadata()}, where="x") == spec
    assert hearing_of({}, where="x") == UNSAID
    assert hearing_of({"hearing": None}, where="x") is None
    assert hearing_of({"micro_omni": {}}, where="x") is None
    for damaged in ({"level": 1.0}, 3, {**spec.metadata(), "level": "loud"}):
        with pytest.raises(ValueError, match="there: the metadata of 'hearing'"):
            hearing_of({"hearing": damaged}, where="there")


# --- files --------------------------------------------------------------------------------------------------------


def write(path, samples, **how):
    soundfile.write(path, np.asarray(samples, dtype=np.float32), RATE, **{"subtype": "FLOAT"} | how)
    return path


CLIP = voice(0.5).numpy()
NOTHING = 0 * CLIP


@pytest.mark.parametrize(
    ("channels", "remark"),
    [
        ([CLIP, -CLIP], "inverted"),
        ([CLIP, -0.9 * CLIP], "inverted"),
        ([CLIP + 0.3, 0.3 - CLIP], "inverted"),
        ([CLIP, NOTHING], None),
        ([NOTHING, NOTHING, CLIP, NOTHING, NOTHING, NOTHING], None),
        ([CLIP, CLIP], None),
    ],
)
def test_speech_in_any_channel_is_there(tmp_path, channels, remark):
    sound = decode_audio(write(tmp_path / "a.wav", np.stack(channels, 1)), RATE)
    heard = sound.waveform - sound.waveform.mean()
    clip = torch.from_numpy(CLIP)
    assert float((heard * clip).sum().abs() / (heard.norm() * clip.norm())) > 0.99
    assert 0.9 < float(heard.norm() / clip.norm()) < 1.01
    assert [remark in said for said in sound.remarks] == ([True] if remark else [])


def test_two_people_in_two_channels_are_both_kept(tmp_path):
    one, other = noise(0, 1.0, seed=1).numpy() * 0.1, noise(0, 1.0, seed=2).numpy() * 0.1
    sound = decode_audio(write(tmp_path / "a.wav", np.stack([one, other], 1)), RATE)
    np.testing.assert_allclose(sound.waveform.numpy(), (one + other) / 2, atol=1e-6)


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_float_samples_in_the_scale_of_whole_numbers_are_brought_to_one(tmp_path, bits, caplog):
    path = write(tmp_path / "a.wav", CLIP * 2.0 ** (bits - 1))
    np.testing.assert_allclose(read_audio(path, RATE).numpy(), CLIP, atol=1e-4)
    assert caplog.messages == [f"{path}: its float samples are taken as numbers of {bits} bits, which they look like"]


def test_floats_above_one_stay_and_nonsense_is_refused(tmp_path):
    assert float(read_audio(write(tmp_path / "a.wav", CLIP / np.abs(CLIP).max() * 3), RATE).abs().max()) > 2.9
    with pytest.raises(ValueError, match=r"b\.wav holds samples up to 1e\+20"):
        read_audio(write(tmp_path / "b.wav", CLIP * 0 + 1e20), RATE)


def test_clipping_is_said(tmp_path):
    clipped = np.clip(CLIP * 40, -1, 1)
    assert "clipped" in decode_audio(write(tmp_path / "a.wav", clipped, subtype="PCM_16"), RATE).remarks[0]
    assert not decode_audio(write(tmp_path / "b.wav", CLIP, subtype="PCM_16"), RATE).remarks


def test_a_stream_of_unknown_length_is_read_to_its_end(tmp_path, monkeypatch):
    """FLAC of a pipe: the number of samples in its header is 0, which means unknown."""
    path = tmp_path / "stream.flac"
    soundfile.write(path, CLIP, RATE)
    content = bytearray(path.read_bytes())
    content[18:26] = (int.from_bytes(content[18:26], "big") & ~((1 << 36) - 1)).to_bytes(8, "big")
    content[26:42] = bytes(16)
    path.write_bytes(content)
    assert len(read_audio(path, RATE)) == len(CLIP)
    assert len(read_audio(path, RATE, seconds=0.1)) == 1600
    monkeypatch.setattr("muomni.frontends.audio_io.MAX_SAMPLES", 4000)
    with pytest.raises(ValueError, match=r"stream\.flac is too long: more than 0 s"):
        read_audio(path, RATE)


def test_channels_count_in_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("muomni.frontends.audio_io.MAX_SAMPLES", 2 * len(CLIP))
    write(tmp_path / "a.wav", np.stack([CLIP] * 3, 1))
    with pytest.raises(ValueError, match=r"a\.wav is too long: 0 s x 3 channels"):
        read_audio(tmp_path / "a.wav", RATE)
    assert len(read_audio(tmp_path / "a.wav", RATE, seconds=0.25)) == 4000
