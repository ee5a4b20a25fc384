"""OpenAI's Python client, synchronous, asynchronous and streaming, against a live server."""

import asyncio
import base64
import io
import json
from contextlib import suppress

import pytest
import soundfile

from tests.unit.serving.test_audio_format import read

openai = pytest.importorskip("openai", reason="pip install openai: these tests are its client's")

QUESTION = [{"role": "user", "content": "what colour is the big red circle"}]


@pytest.fixture
def client(live):
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)


@pytest.fixture
def other(live):
    return openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)


def test_models(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "muomni"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")


def test_chat(client, engine):
    answer = client.chat.completions.create(model="tiny", messages=QUESTION, logprobs=True, top_logprobs=3)
    choice = answer.choices[0]
    assert choice.message.content == engine.generate(messages=QUESTION, max_new_tokens=8)
    assert len(choice.logprobs.content) == answer.usage.completion_tokens
    for token in choice.logprobs.content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob >= token.logprob - 1e-4
    stream = client.chat.completions.create(model="tiny", messages=QUESTION, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == choice.message.content


def test_chat_with_the_streaming_helper(client, engine):
    with client.chat.completions.stream(model="tiny", messages=QUESTION) as stream:
        texts = [event.delta for event in stream if event.type == "content.delta"]
        with suppress(openai.LengthFinishReasonError):  # its own opinion of an answer that ends at the limit
            stream.get_final_completion()
        whole = stream.current_completion_snapshot
    assert "".join(texts) == whole.choices[0].message.content == engine.generate(messages=QUESTION, max_new_tokens=8)


def test_chat_parses_into_a_model(client):
    pydantic = pytest.importorskip("pydantic")

    class Thing(pydantic.BaseModel):
        count: int = pydantic.Field(ge=0, le=9)
        red: bool

    answer = client.chat.completions.parse(
        model="tiny", messages=QUESTION, response_format=Thing, max_completion_tokens=90
    )
    assert 0 <= answer.choices[0].message.parsed.count <= 9


def test_a_spoken_answer(client):
    answer = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "tell me"}],
        modalities=["text", "audio"],
        audio={"voice": "alloy", "format": "wav"},
        response_format={"type": "json_object"},  # letters that can be spoken, whatever a random model says
        max_completion_tokens=40,
    )
    message = answer.choices[0].message
    if message.audio is None:
        pytest.skip("this random model said nothing")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(message.audio.data)))
    assert rate == 24_000
    assert len(samples) > 1000
    further = [
        *[{"role": "user", "content": "tell me"}],
        {"role": "assistant", "audio": {"id": message.audio.id}},
        *QUESTION,
    ]
    assert client.chat.completions.create(model="tiny", messages=further, max_completion_tokens=2).choices


def test_completions(client, engine):
    answer = client.completions.create(model="tiny", prompt="tell me", max_tokens=5, logprobs=2)
    assert len(answer.choices[0].logprobs.tokens) == answer.usage.completion_tokens
    stream = client.completions.create(model="tiny", prompt="tell me", max_tokens=5, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == answer.choices[0].text


@pytest.mark.parametrize("form", ["wav", "flac", "mp3", "opus", "pcm"])
def test_speech(client, engine, form):
    data = client.audio.speech.create(model="tiny", voice="1", input="tell me 1 2 3", response_format=form).read()
    if form == "pcm":
        samples = len(data) // 2
    else:
        heard, rate = read(data)
        samples = len(heard) * 24_000 / rate
    expected = len(engine.generate_speech("tell me 1 2 3", voice=1)) * 24_000 / engine.speech_rate
    assert abs(samples - expected) < 3000  # codecs pad


def test_speech_comes_in_pieces(client):
    with client.audio.speech.with_streaming_response.create(
        model="tiny", voice="0", input="tell me", response_format="pcm"
    ) as answer:
        whole = b"".join(answer.iter_bytes())
    assert whole == client.audio.speech.create(model="tiny", voice="0", input="tell me", response_format="pcm").read()
    events = client.audio.speech.with_raw_response.create(
        model="tiny", voice="0", input="tell me", response_format="pcm", stream_format="sse"
    )
    lines = [json.loads(line[6:]) for line in events.text.splitlines() if line.startswith("data: ")]
    assert b"".join(base64.b64decode(line["audio"]) for line in lines[:-1]) == whole
    assert lines[-1]["type"] == "speech.audio.done"


def test_transcriptions(client, engine, sound):
    expected = engine.transcribe(sound)
    with sound.open("rb") as file:
        assert client.audio.transcriptions.create(model="tiny", file=file).text == expected
    with sound.open("rb") as file:
        verbose = client.audio.transcriptions.create(
            model="tiny", file=file, response_format="verbose_json", timestamp_granularities=["word", "segment"]
        )
    assert verbose.text == expected
    assert [word.word for word in verbose.words] == expected.split()
    assert abs(verbose.duration - 0.5) < 0.01
    for form, begins in (("srt", "1\n"), ("vtt", "WEBVTT"), ("text", expected[:1])):
        with sound.open("rb") as file:
            assert client.audio.transcriptions.create(model="tiny", file=file, response_format=form).startswith(begins)
    with sound.open("rb") as file:
        events = list(client.audio.transcriptions.create(model="tiny", file=file, stream=True))
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == expected == "".join(each.delta for each in events[:-1])


def test_errors_are_the_clients_own(client):
    for error, change in (
        (openai.NotFoundError, {"model": "other"}),
        (openai.BadRequestError, {"temperature": 9}),
        (openai.BadRequestError, {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}),
    ):
        with pytest.raises(error) as raised:
            client.chat.completions.create(**({"model": "tiny", "messages": QUESTION} | change))
        assert raised.value.body["message"]
        assert raised.value.param in ("model", "temperature", "tools")


def test_many_at_once_are_each_alone(other, engine):
    texts = ["what colour", "tell me", "a small blue square", "the big red circle 1 2 3"] * 4
    expected = {text: engine.generate(text, max_new_tokens=8) for text in set(texts)}

    async def one(text, stream):
        messages = [{"role": "user", "content": text}]
        if not stream:
            answer = await other.chat.completions.create(model="tiny", messages=messages)
            return answer.choices[0].message.content
        pieces = await other.chat.completions.create(model="tiny", messages=messages, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in pieces])

    async def all_of_them():
        return await asyncio.gather(*(one(text, stream=index % 2 == 1) for index, text in enumerate(texts)))

    assert asyncio.run(all_of_them()) == [expected[text] for text in texts]
