"""Speech in the voice of a recording: the same alone, in a batch, as a stream and among others; what is no voice is one line."""

import queue

import numpy as np
import pytest
import soundfile
import torch

from muomni.inference.decoding.row_blocks import with_row_blocks
from muomni.inference.errors import InvalidMedia, InvalidOption
from muomni.inference.scheduling.speech_request import SpeechDone
from muomni.inference.scheduling.speech_scheduler import SpeechScheduler
from muomni.inference.tts.reference import ReferenceReader, ReferenceVoice
from muomni.models.talker import Talker
from muomni.serving.errors import ApiError
from muomni.serving.voices import name_voices, voice_named, voice_names
from tests.unit.frontends.test_pitch import voice as sung
from tests.unit.inference.conftest import MEL

RATE = MEL.sample_rate
TEXT = "the red circle is on the left. It was 7 - 2 = 5, who likes it?"


def spoken(*hertz, seconds=3.0, gap=0.25):
    """Voices at 16 kHz, in syllables, with pauses of faint noise."""
    made = torch.nn.functional.interpolate(
        torch.cat([sung(each, seconds) for each in hertz])[None, None], scale_factor=2.0, mode="linear"
    )[0, 0]
    t = torch.arange(len(made)) / RATE
    made = made * (0.02 + 0.98 * torch.sin(4 * torch.pi * t).square())  # syllables
    made[t % 1.0 < gap] = 0.0
    return made + 1e-4 * torch.randn(len(made), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def talker(engine, monkeypatch):
    """The engine speaks with a Talker of random weights that knows voices by their recordings."""
    torch.manual_seed(5)
    made = Talker(
        **{**engine.speaker.talker.options, "alignment": "durations", "max_frames": 60, "speaker_vector": True}
    )
    with torch.no_grad():
        made.eval().text.step.bias.fill_(-0.7)
        made.reference.proj.weight.normal_()
    monkeypatch.setattr(engine.speaker, "talker", with_row_blocks(made))
    monkeypatch.setattr(engine.speaker, "read_reference", ReferenceReader(made, engine.modules["codec"], MEL))
    monkeypatch.setattr(engine.speaker, "named", {})
    monkeypatch.setattr(engine.speaker.decoder.vocoder, "iterations", 1)
    return made


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "ann.wav"
    soundfile.write(path, spoken(120).numpy(), RATE)
    return path


def test_a_recording_is_a_voice_of_its_own(engine, clip):
    own = engine.generate_speech(TEXT, voice=clip)
    assert not torch.equal(own, engine.generate_speech(TEXT)), "of speaker 0"
    assert not torch.equal(own, engine.generate_speech(TEXT, voice=spoken(210)))
    known = engine.voice(str(clip))
    assert isinstance(known, ReferenceVoice) and known.source == str(clip) and known.vector.shape == (24,)
    for again in (known, str(clip), clip.read_bytes()):
        assert torch.equal(engine.generate_speech(TEXT, voice=again), own)


@pytest.mark.parametrize("look_ahead", [None, 4])
def test_a_stream_has_the_samples_of_the_whole(engine, clip, look_ahead):
    whole = engine.generate_speech(TEXT, voice=clip, look_ahead=look_ahead)
    for size in (1, 7, 40):
        pieces = [TEXT[begin : begin + size] for begin in range(0, len(TEXT), size)]
        chunks = engine.generate_speech_stream(pieces, voice=clip, look_ahead=look_ahead)
        assert torch.equal(torch.cat(list(chunks)), whole)


def test_a_batch_and_a_scheduler_have_the_samples_of_each_alone(engine, clip):
    texts, voices = ["the red circle", "who", "a blue square"], [1, engine.voice(clip), engine.voice(spoken(210))]
    alone = [engine.generate_speech(text, voice=voice) for text, voice in zip(texts, voices, strict=True)]
    for one, whole in zip(engine.speak(texts, voices=voices), alone, strict=True):
        assert torch.equal(one.waveform, whole)
    scheduler, listeners = SpeechScheduler(engine, slots=3), [queue.Queue() for _ in texts]
    try:
        for text, voice, listener in zip(texts, voices, listeners, strict=True):
            scheduler.submit(text, voice=voice, emit=listener.put)
        for listener, whole in zip(listeners, alone, strict=True):
            chunks = []
            while isinstance(item := listener.get(timeout=60), torch.Tensor):
                chunks.append(item)
            assert isinstance(item, SpeechDone) and torch.equal(torch.cat(chunks), whole)
    finally:
        scheduler.close(grace=0)


def test_silence_around_a_voice_does_not_count(engine):
    reader, plain = engine.speaker.read_reference, spoken(120)
    noise = 1e-4 * torch.randn(4 * RATE, generator=torch.Generator().manual_seed(1))
    one, other = (reader.speech_of(each, "a") for each in (plain, torch.cat([noise, plain, noise])))
    assert 0.6 * len(plain) < len(one) <= len(plain) and 0.6 * len(plain) < len(other) <= len(plain)


def test_what_is_no_voice_is_one_line(engine, tmp_path):
    noise = 0.1 * torch.randn(4 * RATE, generator=torch.Generator().manual_seed(0))
    for waveform, reason in (
        (torch.zeros(3 * RATE), r"the audio: no speech in 3\.0 s: a voice is taken from 1 s of it or more"),
        (torch.zeros(0), "no speech in 0.0 s"),
        (noise, r"no speech in 4\.0 s"),
        (spoken(120, seconds=0.8), r"no speech in 0\.8 s"),
        (torch.cat([noise / 100, spoken(120, seconds=0.9), noise / 100]), r"0\.\d s of speech in 8\.9 s"),
        (spoken(105, 220), r"the audio: two voices speak in it, at about 10\d and 22\d Hz: cut out a part"),
        (torch.zeros(2, 9), r"voice: a waveform \(N,\) in \[-1, 1\] at 16000 Hz is needed, not torch.float32 \(2, 9\)"),
        (np.full(16000, np.nan, np.float32), "the waveform holds samples up to nan"),
        ([1.0, 2.0], "voice: a file, its bytes or a waveform .* is needed, not list"),
    ):
        with pytest.raises(InvalidMedia, match=reason) as caught:
            engine.generate_speech("a", voice=waveform)
        assert caught.value.param == "voice"
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(InvalidMedia, match=r"text\.wav"):
        engine.generate_speech("a", voice=tmp_path / "text.wav")
    with pytest.raises(FileNotFoundError, match=r"nobody\.wav"):
        engine.generate_speech_stream("a", voice=tmp_path / "nobody.wav")
    with pytest.raises(InvalidOption, match=r"unknown voice 1\.5"):
        engine.generate_speech("a", voice=1.5)


def test_a_talker_that_knows_numbers_alone_says_so(engine, clip, monkeypatch):
    monkeypatch.setattr(engine.speaker.read_reference.talker, "reference", None)
    with pytest.raises(
        InvalidOption, match=r"ann\.wav: this Talker knows its voices by number, 0 to 1: train stage=talker"
    ):
        engine.generate_speech("a", voice=clip)


def test_a_server_knows_recordings_by_the_names_of_their_files(engine, clip, tmp_path):
    name_voices(engine, [clip])
    assert voice_names(engine) == ["0", "1", "ann"]
    named = voice_named("ann", engine, param="voice")
    assert torch.equal(engine.generate_speech("a", voice=named), engine.generate_speech("a", voice=clip))
    assert voice_named("1", engine, param="voice") == 1
    with pytest.raises(ApiError, match="unknown voice 'bob'; there are 0 to 1, ann, and OpenAI's names"):
        voice_named("bob", engine, param="voice")
    with pytest.raises(ValueError, match=r"ann\.wav: a voice of the name 'ann' is there already"):
        name_voices(engine, [clip])
    for name in ("7.wav", "alloy.wav"):
        with pytest.raises(ValueError, match="rename the file"):
            name_voices(engine, [tmp_path / name])
