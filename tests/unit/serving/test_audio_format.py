"""Audio formats as a stream: no sample is lost at a chunk's border, pitch stays, and files can be read."""

import io
import math

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from muomni.frontends.resampler import Resampler
from muomni.inference.errors import InvalidOption
from muomni.serving.audio_format import FORMATS, make_encoder
from muomni.serving.time_stretch import TimeStretch

CUTS = st.lists(st.integers(0, 3000), max_size=8)


def noise(samples):
    return 0.3 * torch.randn(samples, generator=torch.Generator().manual_seed(samples)).clamp(-3, 3)


def chunks(waveform, cuts):
    return torch.tensor_split(waveform, sorted(cut % (len(waveform) + 1) for cut in cuts))


def streamed(stream, waveform, cuts):
    return torch.cat([*(stream.push(chunk) for chunk in chunks(waveform, cuts)), stream.close()])


class Unseekable(soundfile.SoundFile):
    """As a client reads what comes over a wire."""

    def seekable(self):
        return False


def read(data):
    """A file's samples and rate, read block by block: its header need not know the length."""
    with Unseekable(io.BytesIO(data)) as file:
        blocks = []
        while len(block := file.read(1024)):
            blocks.append(block)
        return np.concatenate(blocks), file.samplerate


RATES = [(16000, 24000), (24000, 16000), (16000, 44100), (44100, 16000), (44100, 48000), (22050, 16000), (16000, 8000)]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 3000), CUTS, st.sampled_from(RATES))
def test_a_resampled_stream_is_the_whole(samples, cuts, rates):
    waveform = noise(samples)
    came = streamed(Resampler(*rates), waveform, cuts)
    assert len(came) == math.ceil(samples * rates[1] / rates[0])
    if samples:
        whole = torchaudio.functional.resample(waveform.double(), *rates).float()
        torch.testing.assert_close(came, whole, atol=1e-7, rtol=0)  # a bit of float32 at most
        assert torch.equal(came, streamed(Resampler(*rates), waveform, []))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 6000), CUTS, st.sampled_from([0.25, 0.5, 0.9, 1.1, 2.0, 4.0]))
def test_a_stretched_stream_does_not_depend_on_the_chunks(samples, cuts, speed):
    waveform = noise(samples)
    came = streamed(TimeStretch(speed, 16000), waveform, cuts)
    assert torch.equal(came, streamed(TimeStretch(speed, 16000), waveform, []))
    assert len(came) == round(samples / speed)


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.25, 2.0])
def test_speed_changes_the_length_and_not_the_pitch(speed):
    t = torch.arange(32000) / 16000
    waveform = 0.3 * sum(torch.sin(2 * math.pi * 137.0 * k * t) / k for k in range(1, 8))
    came = streamed(TimeStretch(speed, 16000), waveform, [1000, 7777])
    assert len(came) == round(32000 / speed)
    middle = came[1600:-1600]
    spectrum = torch.fft.rfft(middle * torch.hann_window(len(middle)), n=1 << 18).abs()
    assert float(spectrum.argmax()) * 16000 / (1 << 18) == pytest.approx(137.0, abs=1.5)
    level = middle.square().mean().sqrt() / waveform.square().mean().sqrt()
    assert level == pytest.approx(1.0, abs=0.05)  # nothing cancels
    assert middle.diff(n=2).abs().max() < 1.3 * waveform.diff(n=2).abs().max()  # nothing clicks


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("target", [24000, 16000])
def test_every_format_can_be_read_back(form, target):
    t = torch.arange(40000) / 16000
    waveform = 0.5 * torch.sin(2 * math.pi * 440 * t)
    encoder = make_encoder(form, 16000, target)
    sent = [encoder.push(chunk) for chunk in waveform.split(3840)]
    data = b"".join([*sent, encoder.close()])
    assert any(sent)  # while it comes, not at the end
    if form == "pcm":
        samples, rate = np.frombuffer(data, "<i2") / 32768, target
    else:
        samples, rate = read(data)
    assert rate in (target, 48000)  # Opus decodes at 48 kHz where it likes
    assert len(samples) / rate == pytest.approx(2.5, abs=0.1)  # mp3 begins and ends with silence
    middle = samples[len(samples) // 4 : len(samples) // 2]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() * rate / len(middle) == pytest.approx(440, abs=4)
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.5 / math.sqrt(2), rel=0.1)


@pytest.mark.parametrize("form", FORMATS)
def test_bytes_do_not_depend_on_the_chunks_and_nothing_is_a_file_too(form):
    waveform = noise(20000)
    whole = make_encoder(form, 16000, 24000, speed=1.5)
    once = whole.push(waveform) + whole.close()
    cut = make_encoder(form, 16000, 24000, speed=1.5)
    pieces = b"".join([*(cut.push(chunk) for chunk in waveform.split(999)), cut.close()])
    assert len(pieces) == pytest.approx(len(once), rel=0.02)
    if form in ("wav", "pcm"):
        first, second = (
            np.frombuffer(data[44 if form == "wav" else 0 :], "<i2").astype(int) for data in (once, pieces)
        )
        assert np.abs(first - second).max() <= 1
    assert isinstance(make_encoder(form, 16000, 24000).close(), bytes)


def test_what_cannot_be_written_is_named():
    with pytest.raises(
        InvalidOption, match="response_format=aac: audio is written as wav, pcm, flac, mp3, opus"
    ) as error:
        make_encoder("aac", 16000, 24000)
    assert error.value.param == "response_format"
    for speed in (0.2, 4.1, float("nan"), True, "2"):
        with pytest.raises(InvalidOption, match="speed=") as error:
            make_encoder("wav", 16000, 24000, speed=speed)
        assert error.value.param == "speed"
    with pytest.raises(InvalidOption, match="opus of 44100 Hz"):
        make_encoder("opus", 16000, 44100)
