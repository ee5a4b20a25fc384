"""/v1/chat/completions and /v1/completions: the engine's answers in OpenAI's form."""

import asyncio
import base64
import json
import threading

import pytest

from muomni.inference.prompt import PromptBuilder, Request
from muomni.serving.audio_format import make_encoder
from muomni.serving.spoken import RATE
from tests.unit.serving.conftest import wait_until

QUESTION = [{"role": "user", "content": "what colour is the big red circle"}]


def ask(live, **body):
    return live.http.post("/v1/chat/completions", json={"model": "tiny", "messages": QUESTION} | body)


def text_of(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def events(live, path="/v1/chat/completions", **body):
    with live.http.stream("POST", path, json={"model": "tiny", "stream": True} | body) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


def test_an_answer_is_the_engines(live, engine):
    answer = ask(live)
    assert text_of(answer) == engine.generate(messages=QUESTION, max_new_tokens=8)
    body = answer.json()
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert (body["object"], body["model"]) == ("chat.completion", "tiny")
    assert body["choices"][0]["finish_reason"] in ("stop", "length")


def test_a_stream_joins_to_the_answer(live):
    chunks = events(live, messages=QUESTION, stream_options={"include_usage": True})
    whole = ask(live).json()
    pieces = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks[:-1]]
    assert "".join(pieces) == whole["choices"][0]["message"]["content"]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert chunks[-1]["choices"] == []
    counts = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [chunks[-1]["usage"][name] for name in counts] == [whole["usage"][name] for name in counts]
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_choices_sample_with_seeds_of_their_own(live, engine):
    sampled = ask(live, n=3, seed=5, temperature=1.5).json()["choices"]
    alone = [engine.generate(messages=QUESTION, max_new_tokens=8, seed=5 + i, temperature=1.5) for i in range(3)]
    assert [choice["message"]["content"] for choice in sampled] == alone
    assert [choice["index"] for choice in sampled] == [0, 1, 2]
    streamed = events(live, messages=QUESTION, n=3, seed=5, temperature=1.5)
    for index in range(3):
        own = [chunk["choices"][0] for chunk in streamed if chunk["choices"][0]["index"] == index]
        assert "".join(choice["delta"].get("content") or "" for choice in own) == alone[index]


def test_the_servers_seed_is_that_of_requests_that_name_none(start, engine):
    seeded = start(seed=3)
    texts = [text_of(ask(seeded, temperature=1.0, **named)) for named in ({}, {}, {"seed": 4})]
    assert texts[0] == texts[1] == engine.generate(messages=QUESTION, max_new_tokens=8, temperature=1.0, seed=3)
    assert texts[2] == engine.generate(messages=QUESTION, max_new_tokens=8, temperature=1.0, seed=4)


def test_the_media_of_several_answers_are_read_once(live, engine, picture, monkeypatch):
    url = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what colour"}]
    read, calls = PromptBuilder.encode_media, []
    monkeypatch.setattr(PromptBuilder, "encode_media", lambda *args, **own: calls.append(1) or read(*args, **own))
    answer = ask(live, messages=[{"role": "user", "content": content}], n=4, temperature=1.0, seed=1)
    request = Request(text="what colour", images=[picture])
    expected = [engine.generate_batch([request], max_new_tokens=8, temperature=1.0, seed=1 + i)[0] for i in range(4)]
    assert [choice["message"]["content"] for choice in answer.json()["choices"]] == expected
    assert len(calls) == 1 + 4  # the engine's own


def test_without_a_seed_samples_differ(live):
    texts = {text_of(ask(live, temperature=2)) for _ in range(6)}
    assert len(texts) > 1


def test_stop_and_length_say_why_an_answer_ended(live):
    whole = text_of(ask(live))
    first = whole.split()[0]
    stopped = ask(live, stop=[first]).json()["choices"][0]
    assert (stopped["message"]["content"].strip(), stopped["finish_reason"]) == (
        whole[: whole.index(first)].strip(),
        "stop",
    )
    short = ask(live, max_completion_tokens=2).json()
    assert (short["choices"][0]["finish_reason"], short["usage"]["completion_tokens"]) == ("length", 2)


def test_a_limit_beyond_the_context_is_what_the_context_holds(live):
    assert ask(live, max_completion_tokens=4096).status_code == 200


def test_instructions_may_stand_anywhere(live, engine):
    said = {"role": "system", "content": "a small blue square"}
    expected = engine.generate(messages=[said, *QUESTION], max_new_tokens=8)
    assert text_of(ask(live, messages=[said, *QUESTION])) == expected
    assert text_of(ask(live, messages=[{**said, "role": "developer"}, *QUESTION])) == expected
    split = [{"role": "user", "content": [{"type": "text", "text": QUESTION[0]["content"]}]}, said]
    assert ask(live, messages=split).status_code == 400  # it must end with the user


def test_turns_of_the_same_role_are_one(live, engine):
    said = [("user", "what"), ("user", "colour"), ("assistant", "1"), ("assistant", "2 3"), ("user", "tell me")]
    messages = [{"role": role, "content": text} for role, text in said]
    joined = [("user", "what colour"), ("assistant", "1 2 3"), ("user", "tell me")]
    expected = engine.generate(messages=[{"role": role, "content": text} for role, text in joined], max_new_tokens=8)
    assert text_of(ask(live, messages=messages)) == expected
    messages[1]["content"] = [{"type": "text", "text": "colour"}]
    assert ask(live, messages=messages).status_code == 200


def test_a_picture_is_looked_at(live, engine, picture):
    url = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what colour"}]
    answer = ask(live, messages=[{"role": "user", "content": content}])
    expected = engine.generate_batch([Request(text="what colour", images=[picture])], max_new_tokens=8)[0]
    assert text_of(answer) == expected


def test_a_recording_is_heard(live, engine, sound):
    data = base64.b64encode(sound.read_bytes()).decode()
    content = [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]
    answer = ask(live, messages=[{"role": "user", "content": content}])
    messages = [{"role": "user", "content": [{"type": "audio", "audio": sound}]}]
    assert text_of(answer) == engine.generate(messages=messages, max_new_tokens=8)


def test_a_text_is_continued_as_it_stands(live, engine):
    answer = live.http.post(
        "/v1/completions", json={"model": "tiny", "prompt": ["what colour", "tell me"], "max_tokens": 5}
    )
    requests = [Request(text=text, format="plain") for text in ("what colour", "tell me")]
    expected = engine.generate_batch(requests, max_new_tokens=5)
    assert [choice["text"] for choice in answer.json()["choices"]] == expected
    streamed = events(live, "/v1/completions", prompt="what colour", max_tokens=5, echo=True)
    assert "".join(chunk["choices"][0]["text"] for chunk in streamed) == f"what colour {expected[0]}"


WRONG = [
    ({"model": "other"}, 404, "model"),
    ({"messages": []}, 400, "messages"),
    ({"messages": [{"role": "robot", "content": "a"}]}, 400, "messages[0]"),
    ({"messages": [{"role": "user"}]}, 400, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, 400, "messages[0].content"),
    ({"messages": [{"role": "user", "content": " "}]}, 400, "messages[0].content"),
    ({"messages": [{"role": "assistant", "content": "a"}]}, 400, "messages[0].role"),
    ({"messages": [{"role": "user", "content": "what " * 200}]}, 400, None),
    ({"temperature": -1}, 400, "temperature"),
    ({"temperature": "hot"}, 400, "temperature"),
    ({"top_p": 2}, 400, "top_p"),
    ({"n": 0}, 400, "n"),
    ({"n": 100}, 400, "n"),
    ({"max_completion_tokens": 0}, 400, "max_completion_tokens"),
    ({"stop": ["a"] * 5}, 400, "stop"),
    ({"stop": [""]}, 400, "stop"),
    ({"seed": 2**70}, 400, "seed"),
    ({"logit_bias": {"x": 1}}, 400, "logit_bias"),
    ({"logit_bias": {"99999": 1}}, 400, "logit_bias"),
    ({"tools": [{"type": "function"}]}, 400, "tools"),
    ({"tool_choice": "required"}, 400, "tool_choice"),
    ({"modalities": ["text", "audio"]}, 400, "audio"),
    ({"audio": {"voice": "0", "format": "wav"}}, 400, "audio"),
    ({"top_logprobs": 2}, 400, "top_logprobs"),
    ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
    ({"frequency_penalty": 3}, 400, "frequency_penalty"),
    ({"web_search_options": {}}, 400, "web_search_options"),
    ({"nonsense": 1}, 400, "nonsense"),
]
IMAGES = [
    "http://example.org/a.png", "file:///etc/passwd", "/etc/passwd", "data:image/png,abc", "data:image/png;base64,!!!!",
    "data:image/png;base64,", "data:image/png;base64,AAAA",
]  # fmt: skip


@pytest.mark.parametrize(("change", "status", "param"), WRONG)
def test_what_is_wrong_is_named(live, change, status, param):
    answer = ask(live, **change)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "\n" not in error["message"]
    if param is not None:
        assert error["param"] is not None
        assert error["param"].startswith(param)


@pytest.mark.parametrize("url", IMAGES)
def test_no_address_is_fetched_and_no_file_opened(live, url):
    content = [{"type": "image_url", "image_url": {"url": url}}]
    answer = ask(live, messages=[{"role": "user", "content": content}])
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages[0].content[0].image_url.url"


def test_a_client_that_goes_away_frees_its_slot(live):
    long = {
        "model": "tiny",
        "messages": QUESTION,
        "stream": True,
        "max_completion_tokens": 100,
        "logit_bias": {"2": -100},
    }
    with live.http.stream("POST", "/v1/chat/completions", json=long) as answer:
        next(answer.iter_lines())
    wait_until(lambda: live.state.scheduler.stats().active == 0)
    with pytest.raises(Exception, match="timed out"):
        live.http.post("/v1/chat/completions", json=long | {"stream": False}, timeout=0.001)
    wait_until(lambda: live.state.scheduler.stats().active == 0)


def test_more_than_the_queue_holds_is_429_with_a_time(start):
    server = start(slots=1, max_queue=1)
    answers = []

    def one():
        answers.append(ask(server, max_completion_tokens=100, logit_bias={"2": -100}))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = sorted(answer.status_code for answer in answers)
    assert set(statuses) == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1


def test_a_stop_ends_streams_properly(start):
    server = start(grace=0.05)
    body = {
        "model": "tiny",
        "messages": QUESTION,
        "stream": True,
        "max_completion_tokens": 110,
        "logit_bias": {"2": -100},
    }
    with server.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        server.server.handle_exit(15, None)
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    whole = '"finish_reason":"length"' in rest[-2]  # it may have been quick enough
    assert whole or json.loads(rest[-2][6:])["error"]["code"] == "shutting_down"


def test_json_follows_its_schema(live):
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema, "strict": True}}
    answer = ask(live, response_format=wanted, max_completion_tokens=90).json()["choices"][0]
    value = json.loads(answer["message"]["content"])
    assert value["colour"] in ("red", "blue")
    assert 0 <= value["count"] <= 9
    wrong = {"type": "json_schema", "json_schema": {"name": "thing", "schema": {"type": "nonsense"}}}
    refused = ask(live, response_format=wrong)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "response_format"


def test_an_answer_without_sound_is_its_text(live):
    digits = {"type": "json_schema", "json_schema": {"name": "empty", "schema": {"enum": [{}]}}}
    wanted = {"modalities": ["text", "audio"], "response_format": digits}
    message = ask(live, **wanted, audio={"voice": "0", "format": "wav"}).json()["choices"][0]["message"]
    assert (message["content"].strip(), message.get("audio")) == ("{}", None)
    chunks = events(live, messages=QUESTION, **wanted, audio={"voice": "0", "format": "pcm16"})
    said = "".join((chunk["choices"][0]["delta"].get("audio") or {}).get("transcript") or "" for chunk in chunks)
    assert said.strip() == "{}"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


SPOKEN = {"stream": True, "modalities": ["text", "audio"], "audio": {"voice": "0", "format": "pcm16"}}


def test_an_answer_is_spoken_within_its_sentences_by_the_servers_look_ahead(start, engine):
    live = start(look_ahead=2)
    chunks = events(live, messages=QUESTION, **SPOKEN | {"stream": True})
    audio = b"".join(
        base64.b64decode(each["data"])
        for chunk in chunks
        for choice in chunk["choices"]
        if (each := choice["delta"].get("audio")) and each.get("data")
    )
    answer = engine.generate(messages=QUESTION, max_new_tokens=8)
    encoder = make_encoder("pcm", engine.speech_rate, RATE)
    spoken = encoder.push(engine.generate_speech(answer, look_ahead=2)) + encoder.close()
    assert audio == spoken != b""


def test_a_voice_that_is_none_is_an_error_before_the_answer_begins(live):
    answer = ask(live, **SPOKEN | {"audio": {"voice": "nobody", "format": "pcm16"}})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "audio.voice")
    assert live.state.scheduler.stats().active == live.state.scheduler.stats().queued == 0


def test_more_voices_than_the_queue_holds_are_429_and_leave_nothing(start):
    live = start(max_queue=1, speech_slots=1, slots=8)
    generation = live.state.speech.submit("", emit=lambda event: None, more=True)
    wait_until(lambda: live.state.speech.stats().active == 1)
    waiting = live.state.speech.submit("", emit=lambda event: None, more=True)
    answer = ask(live, **SPOKEN)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "server_busy")
    generation.cancel()
    waiting.cancel()
    for scheduler in (live.state.scheduler, live.state.speech):
        wait_until(lambda scheduler=scheduler: scheduler.stats().active == scheduler.stats().queued == 0)


def test_a_client_that_goes_away_frees_its_voices(live):
    before = live.state.speech.stats().active
    for _ in range(5):
        with live.http.stream(
            "POST", "/v1/chat/completions", json={"model": "tiny", "messages": QUESTION, "n": 3} | SPOKEN
        ):
            pass
    for scheduler in (live.state.scheduler, live.state.speech):
        wait_until(lambda scheduler=scheduler: scheduler.stats().active == scheduler.stats().queued == 0)
    assert before == 0


def test_texts_do_not_wait_for_recordings(start, engine):
    live = start(jobs=1)
    go = threading.Event()
    loop = live.server.servers[0].get_loop()
    asyncio.run_coroutine_threadsafe(live.state.job(go.wait, 20, client="a"), loop)
    try:
        assert text_of(ask(live)) == engine.generate(messages=QUESTION, max_new_tokens=8)
    finally:
        go.set()


def test_more_answers_than_can_wait_are_refused_not_postponed(live):
    body = {"model": "tiny", "prompt": ["a"] * 64, "n": 8}
    answer = live.http.post("/v1/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")
