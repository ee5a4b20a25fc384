"""/v1/realtime with an encoder of chunks: what is said is written down while it is said."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muomni.checkpoints.export import save_export
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.asr.turns import RATE as GATE_RATE
from muomni.inference.engine import Engine
from muomni.inference.load import load_model
from muomni.models.audio import Audio
from muomni.serving.realtime.input_audio import InputAudio
from muomni.serving.realtime.live_transcript import TRANSCRIPTION, LiveTranscript, transcribes_live
from muomni.serving.realtime.schema import AudioInput
from tests.unit.inference.conftest import IMAGE, MEL
from tests.unit.serving.conftest import Live, wait_until
from tests.unit.serving.test_realtime import RATE, append, session, sound

DELTA, COMPLETED, FAILED = (f"{TRANSCRIPTION}.{name}" for name in ("delta", "completed", "failed"))


@pytest.fixture(scope="module")
def streaming_engine(tmp_path_factory, parts, tokenizer_path) -> Engine:
    torch.manual_seed(3)
    audio = Audio(
        n_mels=32, num_symbols=99, channels=4, downsample=4, dim=24, num_layers=1, num_heads=2, ff_dim=32, conv_kernel=3,
        chunk=5, right_context=2,
    )  # fmt: skip
    torch.nn.init.normal_(audio.head.weight, std=0.5)  # so that frames spell unlike symbols
    fingerprint = Tokenizer.load(tokenizer_path).fingerprint()
    metadata = {"stage": "omni_sft", "tokenizer": fingerprint, "mel": MEL.metadata(), "image": IMAGE.metadata()}
    folder = tmp_path_factory.mktemp("streaming") / "omni_sft"
    save_export(folder, parts | {"audio": audio.eval()}, metadata=metadata, files={"tokenizer.model": tokenizer_path})
    return load_model(folder, device="cpu")


@pytest.fixture(scope="module")
def streaming(streaming_engine):
    server = Live(streaming_engine)
    yield server
    server.stop()


def written(socket, *, detection):
    """Ask for transcripts, and no answers."""
    audio = {"input": {"transcription": {"model": "tiny"}, "turn_detection": detection}}
    socket.send("session.update", session={"output_modalities": ["text"], "audio": audio})
    socket.until("session.updated")


def transcript(engine, samples, rate=RATE):
    """What the engine writes of a waveform that comes in pieces."""
    pcm = torch.from_numpy(((samples * 32767).astype("<i2") / 32768).astype(np.float32))
    (last,) = [said for said in engine.transcribe_stream(pcm.split(777), vad=None, rate=rate) if said.ended]
    return last.text


def names(socket):
    return [event["type"] for event in socket.events]


def test_a_turn_is_written_down_while_it_is_spoken(streaming, streaming_engine):
    with session(streaming) as socket:
        written(socket, detection={"create_response": False})
        quiet, talk = sound(1, 1e-4), sound(2)
        append(socket, np.concatenate([quiet, talk]))
        started = socket.until("input_audio_buffer.speech_started")
        first = socket.until(DELTA)
        assert "input_audio_buffer.speech_stopped" not in names(socket)  # nothing that would end it was sent
        append(socket, quiet)
        done = socket.until(COMPLETED)
        deltas = [event for event in socket.events if event["type"] == DELTA]
        assert len(deltas) >= 2
        assert "".join(event["delta"] for event in deltas) == done["transcript"]
        stopped = next(event for event in socket.events if event["type"] == "input_audio_buffer.speech_stopped")
        begin, end = (round(ms * RATE / 1000) for ms in (started["audio_start_ms"], stopped["audio_end_ms"]))
        whole = np.concatenate([quiet, talk, quiet])
        assert done["transcript"] == transcript(streaming_engine, whole[begin:end])
        assert {started["item_id"]} == {event["item_id"] for event in [first, *deltas, done]}
        assert [word["word"] for word in done["words"]] == done["transcript"].split()
        times = [time for word in done["words"] for time in (word["start"], word["end"])]
        assert times == sorted(times)
        assert times[-1] <= done["usage"]["seconds"]
        socket.send("conversation.item.retrieve", item_id=done["item_id"])
        item = socket.until("conversation.item.retrieved")["item"]
        assert item["content"][0]["transcript"] == done["transcript"]


def test_a_turn_of_the_clients_own_is_written_down_before_it_is_committed(streaming, streaming_engine):
    with session(streaming) as socket:
        written(socket, detection=None)
        for seed in (0, 1):
            talk = sound(1.5, seed=seed)
            append(socket, talk)
            first = socket.until(DELTA)
            socket.send("input_audio_buffer.commit")
            assert socket.until("input_audio_buffer.committed")["item_id"] == first["item_id"]
            assert socket.until(COMPLETED)["transcript"] == transcript(streaming_engine, talk)


def test_a_turn_that_is_taken_back_or_too_short_is_not_written_down(streaming):
    with session(streaming) as socket:
        written(socket, detection=None)
        append(socket, sound(1))
        dropped = socket.until(DELTA)["item_id"]
        socket.send("input_audio_buffer.clear")
        socket.until("input_audio_buffer.cleared")
        append(socket, sound(0.05))
        socket.send("input_audio_buffer.commit")
        assert socket.error()["code"] == "buffer_too_small"
        append(socket, sound(1, seed=1))
        socket.send("input_audio_buffer.commit")
        done = socket.until(COMPLETED)
        assert done["item_id"] != dropped
        assert names(socket).count(COMPLETED) == 1


def test_a_turn_that_the_client_ends_has_the_item_that_it_began_with(streaming):
    with session(streaming) as socket:
        written(socket, detection={"create_response": False})
        append(socket, np.concatenate([sound(1, 1e-4), sound(1)]))
        started = socket.until("input_audio_buffer.speech_started")
        socket.until(DELTA)
        socket.send("input_audio_buffer.commit")
        assert socket.until("input_audio_buffer.committed")["item_id"] == started["item_id"]
        assert socket.until(COMPLETED)["item_id"] == started["item_id"]


def test_a_recognizer_that_fails_is_an_event_and_the_session_goes_on(streaming, monkeypatch):
    with session(streaming) as socket:
        written(socket, detection=None)
        monkeypatch.setattr(LiveTranscript, "_read", lambda *_: 1 // 0)
        append(socket, sound(1))
        socket.send("input_audio_buffer.commit")
        assert socket.until(FAILED)["error"]["code"] == "internal_error"
        monkeypatch.undo()
        append(socket, sound(1))
        socket.send("input_audio_buffer.commit")
        assert socket.until(COMPLETED)["transcript"]


def test_a_client_that_goes_while_it_speaks_leaves_nothing(streaming):
    with session(streaming) as socket:
        written(socket, detection=None)
        append(socket, sound(3))
        socket.until(DELTA)
    wait_until(lambda: streaming.state.sessions == 0)
    assert streaming.state.jobs.waiting == 0


def test_an_encoder_without_chunks_writes_at_the_end(engine, streaming_engine):
    assert not transcribes_live(engine)  # test_realtime.py has its events
    assert transcribes_live(streaming_engine)


def test_a_long_turn_is_one_transcript_of_several_parts(streaming_engine, monkeypatch):
    monkeypatch.setattr("muomni.inference.asr.live.MOST_SECONDS", 1.0)
    samples, sent = torch.randn(2 * GATE_RATE + 900, generator=torch.Generator().manual_seed(0)) / 5, []

    async def run():
        async def job(function, *args, client):
            return function(*args)

        async def send(name, **fields):
            sent.append(fields["delta"])

        state = SimpleNamespace(engine=streaming_engine, job=job)
        live = LiveTranscript(state, item="a", begin=0, rate=GATE_RATE, send=send, client="")
        for piece in samples.split(3000):
            live.append(piece)
            await asyncio.sleep(0)
        return await live.result(samples)

    whole = asyncio.run(run())
    parts = [said for said in streaming_engine.transcribe_stream([samples], vad=None, words=True) if said.ended]
    assert len(parts) == 3
    assert whole.text == "".join(sent) == " ".join(part.text for part in parts if part.text)
    assert [word.text for word in whole.words] == whole.text.split()
    assert whole.words == [word for part in parts for word in part.words]


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 60_000), max_size=12), st.sampled_from([16_000, 24_000]), st.booleans())
def test_what_is_heard_of_a_turn_piece_by_piece_is_the_turn(cuts, rate, gated):
    options = AudioInput.model_validate(
        {"format": {"rate": rate}, "turn_detection": {"silence_duration_ms": 100} if gated else None}
    )
    rng = np.random.default_rng(0)
    levels = np.repeat([1e-4, 0.2, 1e-4, 0.2, 1e-4], rate // 2)
    sound = torch.from_numpy((levels * rng.normal(size=len(levels))).astype(np.float32))
    buffer, came, begin, start, turns = InputAudio(options, gate="energy"), [], 0, None, []
    for piece in torch.tensor_split(sound, sorted(each % len(sound) for each in cuts)):
        for border, _ in buffer.append(piece):
            if border.event == "started":
                start, begin, came = border, buffer.number(border), []
            else:
                whole = buffer.take(start, border)
                turns.append((torch.cat([*came, whole[sum(map(len, came)) :]]), whole))
                start, came = None, []
        if start is not None or not gated:
            came.append(buffer.heard(begin + sum(map(len, came))))
    if not gated:
        turns.append((torch.cat(came), buffer.take()))
        assert len(turns[0][1]) == len(sound)
    assert len(turns) == (2 if gated else 1)
    for joined, whole in turns:
        assert torch.equal(joined, whole)
