"""Conversations that are saved and loaded continue as they would have."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from muomni.frontends.audio_io import read_audio
from muomni.inference.conversation_file import MARK
from muomni.inference.errors import ContextLength, InvalidOption
from muomni.inference.load import load_model
from tests.unit.inference.cli.test_chat import talk

OPTIONS = {"max_new_tokens": 5}


def continued(engine, conversation):
    """The next two turns, greedy and sampled."""
    first = engine.answer("and the square", conversation=conversation, repetition_penalty=1.2, **OPTIONS)
    second = engine.answer("tell me", conversation=conversation, generation="chat", seed=3, **OPTIONS)
    return [(turn.text, turn.prompt_tokens, turn.completion_tokens) for turn in (first, second)]


@pytest.mark.parametrize("embed", [False, True])
def test_a_loaded_conversation_continues_as_the_saved_one(engine, picture, sound, tmp_path, embed):
    conversation = engine.conversation(system_prompt="tell me")
    engine.chat("what colour", image=picture, conversation=conversation, **OPTIONS)
    engine.chat(audio=sound, conversation=conversation, stop=["e"], **OPTIONS)
    engine.save_conversation(tmp_path / "talk.json", conversation, embed=embed)
    expected = continued(engine, conversation)
    loaded = engine.load_conversation(tmp_path / "talk.json")
    assert [turn.text for turn in loaded.turns] == [turn.text for turn in conversation.turns[:2]]
    assert continued(engine, loaded) == expected
    assert loaded.cache.position == conversation.cache.position
    content = json.loads((tmp_path / "talk.json").read_text())
    assert set(content["turns"][0]["images"][0]) == ({"data"} if embed else {"path"})


def test_media_that_are_no_files_are_embedded_without_loss(engine, picture, sound, tmp_path):
    pixels, waveform = np.asarray(Image.open(picture)), read_audio(sound, 16000)
    messages = [{"role": "user", "content": [{"type": "image", "image": pixels}, {"type": "text", "text": "what"}]}]
    conversation = engine.conversation()
    engine.chat(messages=messages, conversation=conversation, **OPTIONS)
    engine.chat(image=torch.from_numpy(pixels.copy()).permute(2, 0, 1), conversation=conversation, **OPTIONS)
    engine.chat(audio=waveform, conversation=conversation, **OPTIONS)
    engine.save_conversation(tmp_path / "talk.json", conversation)
    loaded = engine.load_conversation(tmp_path / "talk.json")
    held = loaded.cache.position
    assert held == conversation.cache.position and loaded.pending == conversation.pending
    for mine, other in ((loaded.cache.keys, conversation.cache.keys), (loaded.cache.values, conversation.cache.values)):
        torch.testing.assert_close(mine[:, :, :, :held], other[:, :, :, :held], atol=1e-5, rtol=1e-5)
    assert not (tmp_path / "talk.json").read_text().count('"path"')
    engine.save_conversation(tmp_path / "again.json", loaded)  # what was embedded stays as it is
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads((tmp_path / "talk.json").read_text())


def test_only_what_is_remembered_is_saved_and_an_empty_conversation_too(engine, tmp_path):
    conversation = engine.conversation()
    engine.save_conversation(tmp_path / "a.json", conversation)
    assert engine.load_conversation(tmp_path / "a.json").turns == []
    engine.chat("tell me", conversation=conversation, **OPTIONS)
    conversation.reset()
    engine.chat("what colour", conversation=conversation, **OPTIONS)
    engine.save_conversation(tmp_path / "a.json", conversation)  # over a conversation
    assert [turn.request.text for turn in engine.load_conversation(tmp_path / "a.json").turns] == ["what colour"]


def test_a_file_that_is_no_conversation_is_not_overwritten(engine, tmp_path):
    (tmp_path / "notes.json").write_text('{"mine": 1}')
    for path in (tmp_path, tmp_path / "notes.json"):
        with pytest.raises(InvalidOption, match="is no conversation and is not overwritten") as caught:
            engine.save_conversation(path, engine.conversation())
        assert caught.value.param == "path"
    assert (tmp_path / "notes.json").read_text() == '{"mine": 1}'


TURN = {"text": "what", "max_new_tokens": 3, "answer": "a", "tokens": [20, 21]}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ("no json", "talk.json: not a conversation: no JSON"),
        ("[" * 100_000, "talk.json: not a conversation: no JSON"),
        ({"muomni": "else"}, "not a conversation that was saved by muomni"),
        ({"version": 9}, "of version 9, this muomni reads 1"),
        ({"turns": 3}, "damaged: 'turns' and"),
        ({"turns": [3]}, "turn 1 is damaged: an object is needed"),
        ({"turns": [TURN, {}]}, "turn 2 is damaged: 'tokens' is missing"),
        ({"turns": [TURN | {"heat": 1}]}, "unknown field 'heat'"),
        ({"turns": [TURN | {"text": 3}]}, "turn 1 is damaged: text: a string is needed"),
        ({"turns": [TURN | {"tokens": [2]}]}, "its tokens are not of the vocabulary"),
        ({"turns": [TURN | {"tokens": [9999]}]}, "its tokens are not of the vocabulary"),
        ({"turns": [TURN | {"tokens": "a"}]}, "'tokens' are whole numbers"),
        ({"turns": [TURN | {"images": ["a.png"]}]}, "media are"),
        ({"turns": [TURN | {"images": [{"data": "?"}]}]}, "embedded media are no base64"),
        ({"turns": [TURN | {"images": 3}]}, "turn 1 is damaged"),
        ({"turns": [TURN | {"messages": [{"content": [3]}], "text": ""}]}, "turn 1 is damaged"),
    ],
)
def test_damaged_files_are_one_line(engine, tmp_path, changes, line):
    path = tmp_path / "talk.json"
    content = MARK | {"tokenizer": engine.tokenizer.fingerprint(), "system_prompt": "", "turns": [TURN]}
    path.write_text(changes if isinstance(changes, str) else json.dumps(content | changes))
    with pytest.raises(InvalidOption, match=line) as caught:
        engine.load_conversation(path)
    assert caught.value.param == "path" and "\n" not in str(caught.value)


def test_media_that_are_gone_and_turns_that_do_not_fit(engine, tmp_path):
    path = tmp_path / "talk.json"
    content = MARK | {"tokenizer": engine.tokenizer.fingerprint(), "system_prompt": ""}
    path.write_text(json.dumps(content | {"turns": [TURN | {"images": [{"path": str(tmp_path / "gone.png")}]}]}))
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        engine.load_conversation(path)
    path.write_text(json.dumps(content | {"turns": [TURN | {"max_new_tokens": 100, "tokens": [20] * 100}] * 3}))
    with pytest.raises(ContextLength, match="the 3 turns do not fit the context of 128 tokens"):
        engine.load_conversation(path)
    with pytest.raises(FileNotFoundError, match="no such conversation"):
        engine.load_conversation(tmp_path / "none.json")


def test_another_tokenizer_reads_the_text(engine, tmp_path, caplog):
    path = tmp_path / "talk.json"
    content = MARK | {"tokenizer": "0" * 64, "system_prompt": "", "turns": [TURN | {"answer": "tell me"}]}
    path.write_text(json.dumps(content))
    assert engine.load_conversation(path).turns[0].ids == engine.tokenizer.encode("tell me")
    assert "saved with another tokenizer" in caplog.text


def test_the_chat_saves_and_loads(engine, tmp_path):
    file = tmp_path / "talk.json"
    chat, _, notices = talk(engine, ["tell me", f"/save {file}", "/reset", f"/load {file}", "what colour"], tmp_path)
    assert f"saved: {file}, 1 turns" in notices and f"loaded: {file}, 1 turns" in notices
    assert [turn.request.text for turn in chat.conversation.turns] == ["tell me", "what colour"]
    _, _, notices = talk(engine, [f"/load {tmp_path}/none.json", "/save", "/load"], tmp_path)
    assert notices.count("error: ") == 3 and "no such conversation" in notices
    _, _, notices = talk(engine, [f"/load {file}"], tmp_path, history=False)
    assert "history=false forgets every turn" in notices


def test_a_compiled_engine_restores_too(export, engine, tmp_path):
    conversation = engine.conversation()
    engine.chat("tell me", conversation=conversation, **OPTIONS)
    engine.save_conversation(tmp_path / "a.json", conversation)
    compiled = load_model(export, device="cpu", compile="default")
    loaded = compiled.load_conversation(tmp_path / "a.json")
    held = conversation.cache.position
    torch.testing.assert_close(loaded.cache.keys[:, :, :, :held], conversation.cache.keys[:, :, :, :held])
