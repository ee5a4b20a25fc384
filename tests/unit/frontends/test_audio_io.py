import io
import time

import numpy as np
import pytest
import soundfile
import torch

from muomni.frontends.audio_io import check_audio_target, cut_audio, read_audio, resample, write_audio


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate).astype(np.float32)


@pytest.mark.parametrize(("suffix", "rate", "channels"), [("wav", 8000, 1), ("flac", 22050, 2), ("wav", 16000, 1)])
def test_reads_any_rate_as_mono_of_the_same_pitch(tmp_path, suffix, rate, channels):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([tone(1.0, rate)] * channels, axis=1), rate)
    waveform = read_audio(path, 16000)
    assert waveform.dtype == torch.float32
    assert waveform.dim() == 1
    assert abs(len(waveform) - 16000) <= 2
    peak = int(torch.fft.rfft(waveform[:16000]).abs().argmax())
    assert abs(peak - 440) <= 2


@pytest.mark.parametrize("rate", [1000, 11111, 44101, 176400, 999_983])
def test_rates_of_odd_ratios_take_no_time_and_keep_the_length(rate):
    began = time.perf_counter()
    resampled = resample(torch.from_numpy(tone(0.5, rate)), rate, 16000)
    assert abs(len(resampled) - 8000) <= 4
    assert int(torch.fft.rfft(resampled[:8000]).abs().argmax()) == 220
    assert time.perf_counter() - began < 5  # 44101 Hz took 20 s


@pytest.mark.parametrize(
    ("suffix", "options"), [(".wav", {}), (".flac", {}), (".ogg", {}), (".mp3", {"compression_level": 0.9})]
)
def test_a_cut_is_that_part_of_the_whole(tmp_path, suffix, options):
    """Also of an mp3, whose frames need those before them."""
    path, rate = tmp_path / f"a{suffix}", 16000
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 3 * rate), rate, **options)
    whole = soundfile.read(path, dtype="float32")[0]
    for begin, end in ((0.0, 0.5), (0.05, 1.0), (1.1, 2.9)):
        cut = soundfile.read(io.BytesIO(cut_audio(path, begin, end)), dtype="float32")[0]
        np.testing.assert_allclose(cut, whole[round(begin * rate) : round(end * rate)], atol=1e-4)


def test_a_written_wav_reads_back_and_leaves_nothing_beside_it(tmp_path):
    waveform = torch.from_numpy(tone(0.3, 16000))
    write_audio(tmp_path / "deep" / "a.wav", waveform, 16000)
    assert (read_audio(tmp_path / "deep" / "a.wav", 16000) - waveform).abs().max() < 1e-4
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["a.wav"]


def test_bad_files_are_errors_that_name_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        read_audio(tmp_path / "gone.wav", 16000)
    (tmp_path / "junk.wav").write_bytes(b"RIFF no sound at all")
    with pytest.raises(ValueError, match=r"junk\.wav"):
        read_audio(tmp_path / "junk.wav", 16000)
    (tmp_path / "junk.raw").write_bytes(b"\0" * 99)
    with pytest.raises(ValueError, match=r"junk\.raw"):
        read_audio(tmp_path / "junk.raw", 16000)
    for rate in (7, 2_000_000_000):
        soundfile.write(tmp_path / "rate.wav", np.zeros(99, np.float32), rate)
        with pytest.raises(ValueError, match=rf"rate\.wav says {rate} Hz"):
            read_audio(tmp_path / "rate.wav", 16000)
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 1), np.float32), 16000)
    with pytest.raises(ValueError, match=r"empty\.wav is empty"):
        read_audio(tmp_path / "empty.wav", 16000)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan], np.float32), 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"nan\.wav holds NaN"):
        read_audio(tmp_path / "nan.wav", 16000)


def test_a_forged_length_is_refused_before_decoding(tmp_path):
    soundfile.write(tmp_path / "long.wav", np.zeros(31 * 60 * 10, np.int16), 10)
    with pytest.raises(ValueError, match=r"long\.wav is too long"):
        read_audio(tmp_path / "long.wav", 16000)


@pytest.mark.parametrize("bad", [torch.zeros(2, 5), torch.zeros(0), torch.tensor([0.0, float("nan")])])
def test_a_bad_waveform_is_not_written(tmp_path, bad):
    with pytest.raises(ValueError, match=r"out\.wav"):
        write_audio(tmp_path / "out.wav", bad, 16000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.wav", "WAV"),
        ("a.FLAC", "FLAC"),
        ("a.mp3", "MP3"),
        ("a.ogg", "OGG"),
        ("a.opus", "OGG"),
        ("a.aiff", "AIFF"),
        ("a", "WAV"),
    ],
)
def test_sound_is_written_as_its_name_says(tmp_path, name, kind):
    path = tmp_path / "new" / "deep" / name
    check_audio_target(path)
    write_audio(path, torch.from_numpy(tone(0.5, 16000)), 16000)
    assert soundfile.info(path).format == kind
    assert len(read_audio(path, 16000)) == pytest.approx(8000, abs=2000)
    assert len(list(path.parent.iterdir())) == 1


def test_minutes_of_vorbis_can_be_written(tmp_path):
    """libsndfile's encoder crashes where it gets so many samples at once."""
    write_audio(tmp_path / "a.ogg", torch.zeros(3_000_000), 16000)
    assert soundfile.info(tmp_path / "a.ogg").frames == 3_000_000


def test_a_name_of_another_format_is_refused(tmp_path):
    for write in (check_audio_target, lambda path: write_audio(path, torch.zeros(9), 16000)):
        with pytest.raises(ValueError, match=r"cannot write .*a\.m4a: audio is written as \.wav, \.flac, \.mp3"):
            write(tmp_path / "new" / "a.m4a")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"cannot write .*a\.opus as OGG of 44100 Hz"):
        write_audio(tmp_path / "a.opus", torch.zeros(9), 44100)
    assert not list(tmp_path.iterdir())
