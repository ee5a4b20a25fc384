"""Live transcripts on standard output: of a file, and of raw samples that come through a pipe."""

import io
import os

import numpy as np
import pytest
import torch

from muomni.frontends.audio_io import write_audio
from muomni.inference.cli.transcripts import raw_pieces, transcribe_live
from muomni.inference.errors import InvalidMedia, InvalidOption

PLAIN = {"beams": 1, "lm": None, "timestamps": False, "transcript": "text"}


def noise(seconds, level, seed):
    return torch.randn(round(seconds * 16000), generator=torch.Generator().manual_seed(seed)) * 10 ** (level / 20)


@pytest.fixture(scope="module")
def speech():
    parts = [noise(each, -20 if i % 2 else -75, i) for i, each in enumerate((0.6, 1.0, 1.2, 1.0, 1.2))]
    return (torch.cat(parts).clamp(-1, 1) * 32767).round() / 32768


def test_a_turn_is_a_line_and_a_pipe_says_the_same_as_a_file(engine, speech, tmp_path, capsys):
    write_audio(tmp_path / "a.wav", speech, 16000)
    text, timings = transcribe_live(engine, PLAIN | {"audio_in": str(tmp_path / "a.wav")})
    of_file = capsys.readouterr().out
    ended = [each.text for each in engine.transcribe_stream(iter([speech])) if each.ended]
    assert len(ended) == 2
    assert of_file == "".join(f"{each}\n" for each in ended)
    assert text == " ".join(ended)
    assert timings.transcribed_seconds == pytest.approx(5.0)
    raw = (speech * 32768).round().numpy().astype("<i2").tobytes()
    transcribe_live(engine, PLAIN | {"audio_in": io.BytesIO(raw)})
    assert capsys.readouterr().out == of_file


def test_samples_are_whole_however_bytes_come():
    samples = np.arange(-400, 400, dtype=np.int16)
    read, write = os.pipe()
    with open(read, "rb") as file:
        data = samples.astype("<i2").tobytes()
        pieces = raw_pieces(file, rate=16000)
        came = []
        for cut in (data[:1], data[1:6], data[6:701], data[701:]):
            os.write(write, cut)
            if len(cut) > 1:
                came.append(next(pieces))
        os.close(write)
        came += list(pieces)
    assert np.concatenate(came).tolist() == samples.tolist()


@pytest.mark.parametrize(("mark", "form"), [(b"RIFF0000WAVE", "wav"), (b"fLaC1234", "flac"), (b"OggS1234", "ogg")])
def test_a_file_with_a_header_is_no_raw_sound(mark, form):
    with pytest.raises(InvalidMedia, match=f"not a {form} file: arecord -t raw"):
        list(raw_pieces(io.BytesIO(mark + bytes(100)), rate=16000))


@pytest.mark.parametrize("data", [b"", b"\0", bytes(64000)])
def test_nothing_and_silence_say_so(engine, data, capsys):
    assert transcribe_live(engine, PLAIN | {"audio_in": io.BytesIO(data)})[0] == ""
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "standard input: no words were recognized\n")


@pytest.mark.parametrize("other", [{"beams": 4}, {"lm": "a.arpa"}, {"timestamps": True}, {"transcript": "srt"}])
def test_what_would_be_taken_back_is_refused(engine, other):
    with pytest.raises(InvalidOption, match="live=true writes plain greedy text"):
        transcribe_live(engine, PLAIN | {"audio_in": "a.wav"} | other)
