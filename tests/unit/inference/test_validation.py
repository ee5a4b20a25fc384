"""A value of the wrong kind, given to the Python API, is one line that says what is expected."""

from pathlib import Path

import pytest
import torch

from muomni.inference.load import load_model
from muomni.inference.prompt import Request
from muomni.inference.validation import require_bool, require_path, require_sequence, require_str

SILENCE = torch.zeros(16000)


def test_what_is_right_passes():
    require_str("text", "")
    require_bool("echo", False)
    require_path("path", Path("a"))
    for many in ([], ("a",), iter(["a"])):
        require_sequence("requests", many, of="strings", single="")


def test_what_comes_one_by_one_is_taken_like_a_list(engine):
    request = Request(images=iter(["a.png"]), audios=iter(["a.wav"]))
    assert (request.images, request.audios) == (["a.png"], ["a.wav"])
    request = Request(messages=iter([{"role": "user", "content": "x"}]))
    assert request.as_messages() == request.as_messages() == [{"role": "user", "content": "x"}]
    assert [one.codes.tolist() for one in engine.speak(iter(["hi"]), voices=iter([1]))] == [
        one.codes.tolist() for one in engine.speak(["hi"], voices=[1])
    ]


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda m: m.generate(None), "text: a string is needed, not None"),
        (lambda m: m.generate(["a"]), "text: a string is needed, not list"),
        (lambda m: m.chat(b"a"), "text: a string is needed, not bytes"),
        (lambda m: m.chat(messages="x"), 'messages: a list of {"role", "content"} is needed, not str'),
        (
            lambda m: m.chat(messages={"role": "user", "content": "x"}),
            'a list of {"role", "content"} is needed, not dict',
        ),
        (lambda m: m.chat(messages=3), 'messages: a list of {"role", "content"} is needed, not int'),
        (lambda m: m.chat(messages=["x"]), "a message is {'role': ..., 'content': ...}, not 'x'"),
        (lambda m: m.chat(messages=[{"role": [], "content": "x"}]), "unknown role []"),
        (
            lambda m: m.chat(messages=[{"role": "user", "content": [{"type": "text", "text": 3}]}]),
            "the text of an item is a string, not 3",
        ),
        (lambda m: m.chat("x", conversation="x"), "a result of model.conversation() is needed"),
        (lambda m: m.generate("x", system_prompt=3), "system_prompt: a string is needed, not int"),
        (lambda m: m.generate("x", truncate="no"), "truncate='no': True or False is needed"),
        (lambda m: m.generate("x", echo="no"), "echo='no': True or False is needed"),
        (lambda m: m.generate("x", generation=None, seed=1), "generation=None: a preset (greedy, "),
        (lambda m: m.generate("x", image=""), "image: the name of a file or folder is needed, not an empty name"),
        (lambda m: m.generate("x", audio=""), "audio: the name of a file or folder is needed, not an empty name"),
        (lambda m: m.generate_batch(None), "requests: a list of strings or Requests is needed, not None"),
        (lambda m: m.generate_batch([None]), "requests[0]: a string is needed, not None"),
        (lambda m: m.generate_n_best(["a", 3]), "requests[1]: a string is needed, not int"),
        (lambda m: Request(text=None), "text: a string is needed, not None"),
        (lambda m: Request(images="a.png"), "images: a list of images is needed, not str"),
        (lambda m: Request(audios=SILENCE), "audios: a list of audios is needed, not Tensor"),
        (lambda m: m.conversation(history="no"), "history='no': True or False is needed"),
        (lambda m: m.generate_speech(None), "text: a string is needed, not None"),
        (lambda m: m.generate_speech_stream(3), "text: a string is needed, not int"),
        (lambda m: m.generate_speech("hi", voice="x"), "voice=x: this Talker knows its voices by number, 0 to 1"),
        (lambda m: m.generate_speech("hi", voice=None), "unknown voice None"),
        (lambda m: m.speak([None]), "text: a string is needed, not None"),
        (lambda m: m.speak(None), "texts: a list of strings is needed, not None"),
        (lambda m: m.speak(["hi"], voices=3), "voices: a list of numbers is needed, not int"),
        (lambda m: m.transcribe(SILENCE, beam=4), "unknown option 'beam' of transcribe; available: timestamps, beams"),
        (lambda m: m.transcribe(SILENCE, beams=True), "beams=True: a whole number"),
        (lambda m: m.transcribe(SILENCE, beams=4, lm=3), 'lm=3: an NGram, its file, or "thinker" is needed'),
        (lambda m: m.transcribe(SILENCE, beams=4, lm="thinker", lm_weight=True), "lm_weight=True: a number"),
        (lambda m: m.transcribe(SILENCE, timestamps="no"), "timestamps='no': True or False is needed"),
        (lambda m: load_model(None), "path: the name of a file or folder is needed, not None"),
        (lambda m: load_model(m.where, vocoder=3), "vocoder: the name of a file or folder is needed, not int"),
        (lambda m: load_model(m.where, talker=3), "talker: the name of a file or folder is needed, not int"),
        (lambda m: load_model(m.where, packages=3), "packages: the name of a file or folder is needed, not int"),
    ],
)
def test_a_wrong_kind_is_one_line(engine, call, line):
    with pytest.raises(ValueError) as error:
        call(engine)
    assert line in str(error.value)
    assert len(str(error.value).splitlines()) == 1
