"""/v1/audio/*: speech out, recordings in."""

import base64
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import soundfile


def speak(live, **body):
    return live.http.post("/v1/audio/speech", json={"model": "tiny", "input": "tell me 1 2 3", "voice": "0"} | body)


def listen(live, path, **fields):
    return live.http.post(
        "/v1/audio/transcriptions", data={"model": "tiny"} | fields, files={"file": ("a.wav", path.read_bytes())}
    )


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": "   "}, None),
        ({"voice": "nobody"}, "voice"),
        ({"voice": "99"}, "voice"),
        ({"response_format": "aac"}, "response_format"),
        ({"speed": 9}, "speed"),
        ({"instructions": "happily"}, "instructions"),
        ({"pitch": 2}, "pitch"),
    ],
)
def test_what_cannot_be_spoken_is_named(live, change, param):
    answer = speak(live, **change)
    assert answer.status_code == 400, answer.text
    if param:
        assert answer.json()["error"]["param"] == param


def test_voices_are_listed(live, engine):
    ids = [voice["id"] for voice in live.http.get("/v1/audio/voices").json()["data"]]
    assert ids == [str(number) for number in range(engine.require_speaker().talker.num_speakers)]


def test_speech_is_heard_again(live, tmp_path):
    path = tmp_path / "said.wav"
    path.write_bytes(speak(live, response_format="wav").content)
    samples, rate = soundfile.read(path)
    answer = listen(live, path).json()
    assert abs(answer["usage"]["seconds"] - len(samples) / rate) < 0.01


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "other"}, "model"),
        ({"language": "de"}, "language"),
        ({"response_format": "xml"}, "response_format"),
        ({"stream": "true", "response_format": "srt"}, "stream"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities"),
        ({"timestamp_granularities": "word"}, "timestamp_granularities"),
        ({"beam": "4"}, "beam"),
        ({"language": ["en", "en"]}, "language"),
        ({"temperature": "nan"}, "temperature"),
    ],
)
def test_what_cannot_be_written_down_is_named(live, sound, fields, param):
    answer = listen(live, sound, **fields)
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["param"] == param


def test_a_file_that_is_no_recording_is_refused(live, tmp_path):
    path = tmp_path / "a.wav"
    for content in (b"", b"RIFF", b"\x00" * 1000, json.dumps({"a": 1}).encode()):
        path.write_bytes(content)
        answer = listen(live, path)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "file"
    missing = live.http.post("/v1/audio/transcriptions", files={"model": (None, "tiny")})
    assert missing.json()["error"]["param"] == "file"


def test_a_recording_without_a_single_frame_is_refused_by_the_name_of_its_field(live, tmp_path):
    path = tmp_path / "short.wav"
    soundfile.write(path, [0.1] * 100, 16_000)
    answers, raw = [listen(live, path)], path.read_bytes()
    content = [{"type": "input_audio", "input_audio": {"data": base64.b64encode(raw).decode(), "format": "wav"}}]
    body = {"model": "tiny", "messages": [{"role": "user", "content": content}]}
    answers.append(live.http.post("/v1/chat/completions", json=body))
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json()["error"]["param"] == "file"
    assert answers[1].json()["error"]["param"].startswith("messages[0].content[0]")
    assert all("too short: 100 samples" in answer.json()["error"]["message"] for answer in answers)


def test_a_recording_longer_than_allowed_is_refused(start):
    server = start(max_audio_seconds=1.0)
    file = io.BytesIO()
    soundfile.write(file, [0.1] * 20_000, 16_000, format="WAV")
    answer = server.http.post(
        "/v1/audio/transcriptions", data={"model": "tiny"}, files={"file": ("a.wav", file.getvalue())}
    )
    assert "1 s, which is the most" in answer.json()["error"]["message"]


def test_the_server_answers_while_it_reads_a_long_text(live, monkeypatch):
    reading, go = threading.Event(), threading.Event()
    submit = live.state.speech.submit

    def slow(*args, **options):
        reading.set()
        go.wait(10)
        return submit(*args, **options)

    monkeypatch.setattr(live.state.speech, "submit", slow)
    body = {"model": "tiny", "voice": "0", "input": "a", "response_format": "pcm"}
    with ThreadPoolExecutor(1) as pool:
        spoken = pool.submit(live.http.post, "/v1/audio/speech", json=body)
        assert reading.wait(10)
        assert live.http.get("/health").status_code == 200
        go.set()
        assert spoken.result().status_code == 200
