"""Every parameter of OpenAI's Python client, one by one, with the values that its own tests send: an answer, or an error that
names the field."""

import typing

import pytest

openai = pytest.importorskip("openai", reason="pip install openai: these tests are its client's")
from openai.types import completion_create_params, embedding_create_params  # noqa: E402
from openai.types.audio import speech_create_params, transcription_create_params  # noqa: E402
from openai.types.chat import completion_create_params as chat_create_params  # noqa: E402

TOOL = {
    "type": "function",
    "function": {"name": "name", "description": "text", "parameters": {"foo": "bar"}, "strict": True},
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False}
AUDIO = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
BASIC = {"model": "gpt-5.4", "messages": [{"role": "developer", "content": "string"}]}

#: Parameter -> values that are answered.
CHAT = {
    "messages": [
        [{"role": "developer", "content": "string", "name": "name"}],
        [{"role": "system", "content": [{"type": "text", "text": "a"}]}, {"role": "user", "content": "b", "name": "n"}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "1"}, {"role": "user", "content": "b"}],
    ],
    "audio": [], "modalities": [["text"]], "model": ["gpt-4o", "string"],
    "frequency_penalty": [-2, 2], "presence_penalty": [-2, 2], "logit_bias": [{"5": 0}, {"7": -100}],
    "logprobs": [True, False],
    "max_completion_tokens": [1, 10**9], "max_tokens": [1], "metadata": [{"foo": "string"}], "n": [1, 2],
    "parallel_tool_calls": [True],
    "prediction": [{"content": "string", "type": "content"}], "prompt_cache_key": ["prompt-cache-key-1234"],
    "prompt_cache_options": [{"mode": "implicit"}], "prompt_cache_retention": ["in_memory", "24h"],
    "response_format": [
        {"type": "text"}, {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}},
    ],
    "safety_identifier": ["safety-identifier-1234"], "seed": [-9007199254740991, 7],
    "service_tier": ["auto", "default"],
    "stop": ["string", ["a", "b"]], "store": [True], "stream": [False], "temperature": [0, 1, 2],
    "tool_choice": ["none", "auto"],
    "tools": [[]], "top_p": [1, 0.1], "user": ["user-1234"], "verbosity": ["low"],
}  # fmt: skip
#: Parameter -> values that are refused, by its name.
REFUSED_CHAT = {
    "audio": [AUDIO["audio"]], "modalities": [["image"]], "function_call": ["none"],
    "functions": [[{"name": "name", "description": "text", "parameters": {"foo": "bar"}}]], "logit_bias": [{"foo": 0}],
    "max_completion_tokens": [0], "max_tokens": [0], "moderation": [{"model": "model"}],
    "reasoning_effort": ["none", "high"],
    "stream_options": [{"include_obfuscation": True, "include_usage": True}], "tools": [[TOOL, TOOL]],
    "tool_choice": ["required"],
    "top_logprobs": [0, 3], "web_search_options": [{"search_context_size": "low"}], "service_tier": ["flex"],
    "n": [0, 129],
    "messages": [[{"role": "tool", "content": "a", "tool_call_id": "b"}], []], "top_p": [0],
}  # fmt: skip


@pytest.fixture(scope="module")
def anyone(engine):
    from tests.unit.serving.conftest import Live

    server = Live(engine, names=("*",))
    yield openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True)
    server.stop()


def pairs(table):
    return [
        pytest.param(name, value, id=f"{name}={str(value)[:30]}") for name, values in table.items() for value in values
    ]


def named(error, field):
    """Whether the error is about the field."""
    return error.status_code == 400 and error.param is not None and error.param.startswith(field)


@pytest.mark.parametrize(("name", "value"), pairs(CHAT))
def test_chat_takes(anyone, name, value):
    answer = anyone.chat.completions.create(**(BASIC | {"max_tokens": 2} | {name: value}))
    assert answer.choices[0].message.role == "assistant"
    assert answer.model == (value if name == "model" else "gpt-5.4")
    if name == "n":
        assert len(answer.choices) == value


@pytest.mark.parametrize(("name", "value"), pairs(REFUSED_CHAT))
def test_chat_refuses_by_name(anyone, name, value):
    with pytest.raises(openai.BadRequestError) as raised:
        anyone.chat.completions.create(**(BASIC | {name: value}))
    assert named(raised.value, name), raised.value.body


def test_nothing_of_chat_is_forgotten():
    """A parameter that a later client has is refused by name: `extra="forbid"`."""
    known = set(typing.get_type_hints(chat_create_params.CompletionCreateParamsNonStreaming))
    assert known - set(CHAT) - set(REFUSED_CHAT) == set()


@pytest.mark.parametrize(
    "extra", [{}, {"stream_options": {"include_usage": True}}, {"logprobs": True, "top_logprobs": 2}]
)
def test_chat_streams(anyone, extra):
    chunks = list(anyone.chat.completions.create(**BASIC, stream=True, max_tokens=3, **extra))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert bool(chunks[-1].usage) == ("stream_options" in extra)
    assert anyone.chat.completions.with_raw_response.create(**BASIC, stream=True).parse().close() is None
    with anyone.chat.completions.with_streaming_response.create(**BASIC, max_tokens=2) as response:
        assert response.parse().choices


@pytest.mark.parametrize(
    ("name", "value"),
    pairs({
        "prompt": ["This is a test.", ["a", "b"]], "best_of": [1], "echo": [True], "frequency_penalty": [-2],
        "logit_bias": [{"5": 0}],
        "logprobs": [0, 5], "max_tokens": [1, 16], "n": [1], "presence_penalty": [2], "seed": [0],
        "stop": ["\n", ["a"]], "stream": [False],
        "temperature": [1], "top_p": [1], "user": ["user-1234"], "model": ["gpt-3.5-turbo-instruct"],
    }),
)  # fmt: skip
def test_completions_take(anyone, name, value):
    answer = anyone.completions.create(**({"model": "string", "prompt": "a test", "max_tokens": 2} | {name: value}))
    assert len(answer.choices) == (2 if value == ["a", "b"] else 1)


@pytest.mark.parametrize(
    ("name", "value"),
    pairs({
        "best_of": [0, 5], "logit_bias": [{"foo": 0}], "suffix": ["test."], "logprobs": [6],
        "stream_options": [{"include_usage": True}],
        "prompt": [[1, 2], [[1]], "", "a " * 500],
    }),
)  # fmt: skip
def test_completions_refuse_by_name(anyone, name, value):
    with pytest.raises(openai.BadRequestError) as raised:
        anyone.completions.create(**({"model": "string", "prompt": "a test"} | {name: value}))
    assert named(raised.value, name), raised.value.body


def test_speech_and_transcripts_name_what_they_refuse(anyone, sound):
    for change in (
        {"instructions": "happily"},
        {"response_format": "aac"},
        {"speed": 0.1},
        {"voice": "string"},
        {"input": "?!"},
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            anyone.audio.speech.create(**({"model": "tts-1", "input": "one", "voice": "alloy"} | change))
        assert named(raised.value, next(iter(change)))
    assert (
        len(
            anyone.audio.speech.create(
                model="tts-1", input="one", voice={"id": "1"}, speed=1.5, stream_format="audio"
            ).read()
        )
        > 100
    )
    takes = {
        "language": "en",
        "prompt": "string",
        "temperature": 0,
        "response_format": "json",
        "chunking_strategy": "auto",
    }
    assert anyone.audio.transcriptions.create(file=sound, model="whisper-1", **takes).text is not None
    with pytest.raises(openai.BadRequestError) as raised:
        anyone.audio.transcriptions.create(file=b"raw file contents", model="gpt-transcribe")
    assert named(raised.value, "file")
    refused = {
        "include": ["logprobs"], "keywords": ["a"], "known_speaker_names": ["a"], "known_speaker_references": ["a"],
        "languages": ["en"],
        "response_format": "diarized_json", "language": "string", "temperature": 2, "timestamp_granularities": ["word"],
    }  # fmt: skip
    for name, value in refused.items():
        with pytest.raises(openai.BadRequestError) as raised:
            anyone.audio.transcriptions.create(file=sound, model="whisper-1", **{name: value})
        assert named(raised.value, name), (name, raised.value.body)
    known = set(typing.get_type_hints(transcription_create_params.TranscriptionCreateParamsNonStreaming))
    assert known - set(refused) - set(takes) - {"file", "model", "stream"} == set()
    known = set(typing.get_type_hints(speech_create_params.SpeechCreateParams))
    assert known == {"input", "model", "voice", "instructions", "response_format", "speed", "stream_format"}


def test_embeddings_without_towers_are_refused_by_name(anyone):
    with pytest.raises(openai.BadRequestError) as raised:
        anyone.embeddings.create(model="text-embedding-3-small", input="a", encoding_format="float", user="user-1234")
    assert named(raised.value, "model")
    for wrong in ({"input": [1, 2]}, {"input": [[1]]}, {"input": ""}, {"encoding_format": "int8"}, {"dimensions": 0}):
        with pytest.raises(openai.BadRequestError) as raised:
            anyone.embeddings.create(**({"model": "m", "input": "a"} | wrong))
        assert named(raised.value, next(iter(wrong)))
    known = set(typing.get_type_hints(embedding_create_params.EmbeddingCreateParams))
    assert known == {"dimensions", "encoding_format", "input", "model", "user"}
    assert set(typing.get_type_hints(completion_create_params.CompletionCreateParamsNonStreaming)) >= {
        "prompt",
        "suffix",
    }


@pytest.mark.parametrize("name", ["gpt-4o-mini", "ft:gpt-4o:org:name:id", "org/name", "a b", "ä"])
def test_models_are_retrieved_by_any_name(anyone, name):
    assert anyone.models.retrieve(name).id == name


def test_other_routes_of_openai_are_404(anyone):
    for ask in (
        lambda: anyone.responses.create(model="m", input="a"),
        lambda: anyone.files.list(),
        lambda: anyone.models.delete("m"),
        lambda: anyone.images.generate(prompt="a"),
        lambda: anyone.audio.translations.create(model="m", file=b"a"),
    ):
        with pytest.raises(openai.APIStatusError) as raised:
            ask()
        assert raised.value.status_code in (404, 405)
        assert raised.value.body["message"]
