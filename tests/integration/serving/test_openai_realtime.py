"""OpenAI's Python client in a realtime session: a written turn, a spoken one, and an answer that is cancelled."""

import base64

import numpy as np
import pytest

openai = pytest.importorskip("openai", reason="pip install openai: these tests are its client's")


@pytest.fixture
def connection(live):
    client = openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)
    with client.realtime.connect(model="tiny") as opened:
        assert opened.recv().type == "session.created"
        yield opened


def until(connection, name):
    """The events up to one of that name."""
    events = []
    while not events or events[-1].type != name:
        events.append(connection.recv())
        assert events[-1].type != "error", events[-1]
    return events


def say(connection, text):
    content = [{"type": "input_text", "text": text}]
    connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
    until(connection, "conversation.item.done")


def text_only(connection, **audio):
    session = {"type": "realtime", "output_modalities": ["text"]} | ({"audio": audio} if audio else {})
    connection.session.update(session=session)
    assert until(connection, "session.updated")[-1].session.output_modalities == ["text"]


def test_a_written_turn(connection, engine):
    text_only(connection)
    say(connection, "what colour")
    connection.response.create()
    events = until(connection, "response.done")
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == engine.generate(messages=[{"role": "user", "content": "what colour"}], max_new_tokens=8)
    assert events[-1].response.output[0].content[0].text == said
    assert events[-1].response.usage.output_tokens > 0


def test_a_spoken_turn(connection):
    transcription = {"model": "tiny"}
    text_only(connection, input={"turn_detection": None, "transcription": transcription})
    samples = np.random.default_rng(0).normal(0, 0.1, 12_000).clip(-1, 1)
    connection.input_audio_buffer.append(audio=base64.b64encode((samples * 32767).astype("<i2").tobytes()).decode())
    connection.input_audio_buffer.commit()
    events = until(connection, "conversation.item.input_audio_transcription.completed")
    assert {"input_audio_buffer.committed", "conversation.item.added"} <= {event.type for event in events}
    connection.response.create()
    assert until(connection, "response.done")[-1].response.status in ("completed", "incomplete")


def test_a_cancelled_answer(connection):
    text_only(connection)
    say(connection, "tell me")
    connection.response.create(response={"max_output_tokens": 4096})
    until(connection, "response.created")
    connection.response.cancel()
    events = []
    while not events or events[-1].type not in ("response.done",):
        events.append(connection.recv())
    assert events[-1].response.status in ("cancelled", "completed", "incomplete")
    say(connection, "what colour")  # the session is still there
