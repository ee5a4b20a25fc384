"""/v1/realtime: OpenAI's events over a WebSocket."""

import asyncio
import base64
import json
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from websockets.asyncio.client import connect as connect_async
from websockets.sync.client import connect

from muomni.serving import protocols
from muomni.serving.realtime.conversation import MAX_SAMPLES, Turn, Turns
from muomni.serving.realtime.session import RealtimeSession
from tests.unit.serving.conftest import wait_until

RATE = 24_000
WRONG_ITEM = (
    '{"type": "conversation.item.create", '
    '"item": {"type": "message", "role": "user", "content": [{"type": "output_text", "text": "a"}]}}'
)


class Socket:
    def __init__(self, raw):
        self.raw, self.events = raw, []

    def send(self, name, **fields):
        self.raw.send(json.dumps({"type": name, **fields}))

    def read(self):
        event = json.loads(self.raw.recv(timeout=30))
        self.events.append(event)
        return event

    def until(self, name):
        """The next event of that name; none of those before it may be an error."""
        while True:
            event = self.read()
            assert name == "error" or event["type"] != "error", event
            if event["type"] == name:
                return event

    def error(self):
        return self.until("error")["error"]


@contextmanager
def session(live, **options):
    with connect(live.url.replace("http", "ws") + "/v1/realtime?model=tiny", **options) as raw:
        socket = Socket(raw)
        assert socket.read()["type"] == "session.created"
        yield socket


def say_text(socket, text):
    socket.send(
        "conversation.item.create",
        item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]},
    )
    return socket.until("conversation.item.done")["item"]["id"]


def sound(seconds, level=0.2, seed=0):
    return np.random.default_rng(seed).normal(0, level, round(seconds * RATE)).clip(-1, 1)


def append(socket, samples, block=2400):
    pcm = (samples * 32767).astype("<i2").tobytes()
    for start in range(0, len(pcm), 2 * block):
        data = base64.b64encode(pcm[start : start + 2 * block]).decode()
        socket.send("input_audio_buffer.append", audio=data)


def texts_only(socket):
    socket.send("session.update", session={"type": "realtime", "output_modalities": ["text"]})
    return socket.until("session.updated")["session"]


def test_a_written_conversation(live, engine):
    with session(live) as socket:
        assert texts_only(socket)["output_modalities"] == ["text"]
        say_text(socket, "what colour")
        socket.send("response.create")
        done = socket.until("response.done")["response"]
        assert done["status"] in ("completed", "incomplete")
        deltas = [event["delta"] for event in socket.events if event["type"] == "response.output_text.delta"]
        expected = engine.generate(messages=[{"role": "user", "content": "what colour"}], max_new_tokens=8)
        assert "".join(deltas) == expected == done["output"][0]["content"][0]["text"]
        order = [event["type"] for event in socket.events if event["type"].startswith("response")]
        assert order[:3] == ["response.created", "response.output_item.added", "response.content_part.added"]
        assert order[-4:] == [
            "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.done",
        ]  # fmt: skip
        say_text(socket, "tell me")
        socket.send("response.create", response={"max_output_tokens": 2})
        second = socket.until("response.done")["response"]
        assert second["status_details"]["reason"] == "max_output_tokens"
        assert second["usage"]["output_tokens"] == 2


def test_turns_are_found_written_down_and_answered(live):
    with session(live) as socket:
        socket.send(
            "session.update",
            session={"output_modalities": ["text"], "audio": {"input": {"transcription": {"model": "tiny"}}}},
        )
        socket.until("session.updated")
        quiet = sound(1, 1e-4)
        append(socket, np.concatenate([quiet, sound(1), quiet]))
        started = socket.until("input_audio_buffer.speech_started")
        assert 500 < started["audio_start_ms"] < 1000
        stopped = socket.until("input_audio_buffer.speech_stopped")
        assert 2400 < stopped["audio_end_ms"] < 2700
        committed = socket.until("input_audio_buffer.committed")
        assert committed["item_id"] == started["item_id"] == stopped["item_id"]
        events = {}
        while not {"response.done", "conversation.item.input_audio_transcription.completed"} <= events.keys():
            event = socket.read()
            events[event["type"]] = event
        assert "error" not in events
        written = events["conversation.item.input_audio_transcription.completed"]
        assert [word["word"] for word in written["words"]] == written["transcript"].split()
        assert all(0 <= word["start"] <= word["end"] for word in written["words"])


def test_turns_of_the_clients_own(live):
    with session(live) as socket:
        socket.send(
            "session.update", session={"output_modalities": ["text"], "audio": {"input": {"turn_detection": None}}}
        )
        socket.until("session.updated")
        socket.send("input_audio_buffer.commit")
        assert socket.error()["code"] == "buffer_too_small"
        append(socket, sound(0.5))
        socket.send("input_audio_buffer.clear")
        socket.until("input_audio_buffer.cleared")
        append(socket, sound(0.5))
        socket.send("input_audio_buffer.commit")
        socket.until("conversation.item.done")
        socket.send("response.create")
        assert socket.until("response.done")["response"]["status"] in ("completed", "incomplete")


def test_items_are_shown_cut_and_removed(live):
    with session(live) as socket:
        texts_only(socket)
        first, second = say_text(socket, "what colour"), say_text(socket, "tell me")
        socket.send("conversation.item.retrieve", item_id=first)
        assert socket.until("conversation.item.retrieved")["item"]["content"][0]["text"] == "what colour"
        socket.send("conversation.item.delete", item_id=second)
        socket.until("conversation.item.deleted")
        socket.send("conversation.item.retrieve", item_id=second)
        assert socket.error()["param"] == "item_id"


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ("{", None),
        ("[]", None),
        ('{"type": "nonsense"}', "type"),
        ('{"type": "response.create", "extra": 1}', "extra"),
        ('{"type": "input_audio_buffer.append", "audio": "!"}', "audio"),
        ('{"type": "input_audio_buffer.append", "audio": "AAAA"}', "audio"),
        ('{"type": "session.update", "session": {"voice": 1}}', "session.voice"),
        ('{"type": "session.update", "session": {"audio": {"output": {"voice": "nobody"}}}}', "session.audio.output.voice"),
        ('{"type": "response.cancel"}', "response_id"),
        ('{"type": "response.create", "event_id": "mine"}', None),
        (WRONG_ITEM, "item.content[0].type"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_the_session_goes_on(live, raw, param):
    with session(live) as socket:
        socket.raw.send(raw)
        while (event := socket.read())["type"] != "error":
            pass
        error = event["error"]
        assert {"message", "type", "param", "code", "event_id"} >= set(error)
        if param:
            assert error["param"] == param
        texts_only(socket)


def test_a_new_turn_stops_the_answer(live):
    with session(live) as socket:
        texts_only(socket)
        say_text(socket, "what colour")
        socket.send("response.create", response={"max_output_tokens": 4096})
        socket.until("response.created")
        append(socket, np.concatenate([sound(1, 1e-4), sound(0.5)]))
        socket.until("input_audio_buffer.speech_started")
        statuses = [event["response"]["status"] for event in socket.events if event["type"] == "response.done"]
        while not statuses:
            event = socket.read()
            statuses += [event["response"]["status"]] if event["type"] == "response.done" else []
        assert statuses[0] in ("cancelled", "completed", "incomplete")
        wait_until(lambda: live.state.scheduler.stats().active == 0)


def test_turns_without_an_answer_between_them_are_one(live, engine):
    with session(live) as socket:
        texts_only(socket)
        for text in ("what colour", "what shape"):
            say_text(socket, text)
        socket.send("response.create")
        said = socket.until("response.output_text.done")["text"]
        content = [{"type": "text", "text": text} for text in ("what colour", "what shape")]
        assert said == engine.generate(messages=[{"role": "user", "content": content}], max_new_tokens=8)


def test_a_client_that_goes_away_leaves_nothing(live):
    with session(live) as socket:
        say_text(socket, "what colour")
        socket.send("response.create")
    wait_until(lambda: live.state.sessions == 0)
    wait_until(lambda: live.state.scheduler.stats().active == 0)


def test_strangers_are_not_let_in(start):
    server = start(key="correct-horse", max_sessions=1)
    address = server.url.replace("http", "ws") + "/v1/realtime"
    for options in (
        {},
        {"additional_headers": {"Authorization": "Bearer wrong"}},
        {"additional_headers": {"Authorization": "Bearer correct-horse"}, "origin": "https://evil.example"},
    ):
        with pytest.raises(Exception, match="HTTP 403|rejected"), connect(address, **options):
            pass
    with connect(address, subprotocols=["realtime", "openai-insecure-api-key.correct-horse"]) as raw:
        assert json.loads(raw.recv(timeout=10))["type"] == "session.created"
        with pytest.raises(Exception, match="HTTP 403|rejected"):
            connect(address, additional_headers={"Authorization": "Bearer correct-horse"})


def test_two_turns_in_one_message_are_both_heard(live):
    with session(live) as socket:
        socket.send(
            "session.update",
            session={"output_modalities": ["text"], "audio": {"input": {"turn_detection": {"create_response": False}}}},
        )
        socket.until("session.updated")
        quiet = sound(1, 1e-4)
        append(socket, np.concatenate([quiet, sound(1), quiet, sound(1, seed=1), quiet]), block=10**6)
        first = socket.until("input_audio_buffer.committed")
        assert socket.until("input_audio_buffer.committed")["previous_item_id"] == first["item_id"]


def test_the_client_is_told_who_stopped_an_answer(live):
    with session(live) as socket:
        texts_only(socket)
        say_text(socket, "what colour")
        live.state.scheduler.steps.prefill_chunk, before = 1, live.state.scheduler.steps.prefill_chunk
        socket.send("response.create", response={"max_output_tokens": 4096})
        socket.until("response.created")
        socket.send("response.cancel")
        done = socket.until("response.done")["response"]
        live.state.scheduler.steps.prefill_chunk = before
        assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}


def test_a_fault_of_the_server_is_an_event_and_the_session_goes_on(live, monkeypatch):
    monkeypatch.setattr(RealtimeSession, "_create", lambda *_: 1 // 0)
    with session(live) as socket:
        socket.raw.send(b"bytes")
        assert socket.error()["code"] == "invalid_json"
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]}
        socket.send("conversation.item.create", item=item)
        assert socket.error()["code"] == "internal_error"
        assert texts_only(socket)


def test_a_conversation_holds_few_images_and_forgets_the_oldest_sound(live, picture):
    data = base64.b64encode(picture.read_bytes()).decode()
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{data}"}
    with session(live) as socket:
        for count in (8, 1):
            item = {"type": "message", "role": "user", "content": [image] * count}
            socket.send("conversation.item.create", item=item)
            if count == 8:
                socket.until("conversation.item.done")
        assert socket.error()["param"] == "item.content"
    turns = Turns()
    for _ in range(10):
        turns.add(Turn(role="user", content=[], media={0: torch.zeros(MAX_SAMPLES // 4)}))
    assert len(turns.turns) == 4


def test_no_more_sessions_than_allowed_however_fast_they_come(start):
    server = start(max_sessions=2)
    address = server.url.replace("http", "ws") + "/v1/realtime"

    async def one():
        async with connect_async(address) as socket:
            await socket.recv()
            await asyncio.sleep(0.5)

    async def all_at_once():
        return await asyncio.gather(*(one() for _ in range(6)), return_exceptions=True)

    results = asyncio.run(all_at_once())
    assert sum(result is None for result in results) == 2


def test_a_session_outlasts_the_time_for_headers(live, monkeypatch):
    monkeypatch.setattr(protocols, "HEADER_SECONDS", 0.3)
    with session(live) as socket:
        time.sleep(0.8)
        assert texts_only(socket)
