"""The task of a command line of infer.py, and the options that it refuses."""

import pytest

import infer
from muomni.checkpoints.export import save_export
from muomni.inference.cli.tasks import ALWAYS, USES, Task, choose_task, reject_unused
from tests.unit.inference.conftest import MEL

OMNI = ("thinker", "audio", "vision", "talker", "codec")
DEFAULTS = infer.defaults()


def test_every_option_belongs_to_a_task_and_every_name_is_an_option():
    used = set(ALWAYS).union(*USES.values())
    assert used - {"paths"} == set(DEFAULTS)


@pytest.mark.parametrize(
    ("given", "parts", "task"),
    [
        ({}, OMNI, Task.CHAT),
        ({"history": False, "speak": True, "audio_out": "a.wav", "voice": 1}, OMNI, Task.CHAT),
        ({"text": "x", "voice": 1, "audio_out": "a.wav", "echo": True, "truncate": True}, OMNI, Task.ANSWER),
        ({"prompt": "x", "image": "a.png", "generation": {"top_k": 3}}, OMNI, Task.ANSWER),
        ({"video": "a.gif", "video_frames": 2}, OMNI, Task.ANSWER),
        ({"audio_in": "a.wav", "dtype": "int8"}, OMNI, Task.ANSWER),
        (
            {"audio_in": "a.wav", "transcribe": True, "beams": 9, "lm": "thinker", "dtype": "int8"},
            OMNI,
            Task.TRANSCRIBE,
        ),
        ({"audio_in": "a.wav", "timestamps": True}, ("audio",), Task.TRANSCRIBE),
        ({"audio_in": "a.wav", "transcript": "srt"}, OMNI, Task.TRANSCRIBE),
        ({"batch": "a.jsonl", "out": "b.jsonl", "batch_size": 2, "truncate": True}, OMNI, Task.BATCH),
        ({"transcribe": True, "talker": "t", "vocoder": "v"}, ("audio",), Task.TRANSCRIBE),
        ({"text": "x", "audio_in": "a.wav"}, ("audio",), Task.ANSWER),  # which says that there is no Thinker
        ({"text": "x", "audio_out": "a.wav"}, ("talker", "codec"), Task.SPEAK),
        ({"image": "a.png"}, ("ocr",), Task.OCR),
        ({"export": "a.safetensors", "talker": "t"}, (), Task.EXPORT),
    ],
)
def test_the_options_name_the_task_and_those_that_belong_to_it_are_taken(given, parts, task):
    cfg = DEFAULTS | given
    assert choose_task(cfg, parts) is task
    reject_unused(task, cfg, DEFAULTS)


@pytest.mark.parametrize(
    ("given", "parts", "names"),
    [
        ({"audio_in": "a", "generation": DEFAULTS["generation"] | {"temperature": 1.0}}, ("audio",), "generation="),
        ({"audio_in": "a", "transcribe": True, "image": "b", "text": "x"}, OMNI, "text=, image="),
        ({"audio_in": "a", "transcribe": True, "compile": "max", "dtype": "int8"}, OMNI, "compile=, dtype="),
        ({"audio_in": "a", "voice": 1}, ("audio",), "voice="),
        ({"text": "x", "audio_out": "a.wav", "generation": {}}, ("talker",), "generation="),
        ({"text": "x", "speak": True}, OMNI, "speak="),
        ({"text": "x", "video_frames": 9}, OMNI, "video_frames="),
        ({"text": "x", "n_best": 3, "echo": True}, OMNI, "echo="),
        ({"text": "x", "lm_weight": 3}, OMNI, "lm_weight="),
        ({"echo": True, "video_frames": 2}, OMNI, "video_frames=, echo="),
        ({"image": "a.png", "text": "x"}, ("ocr",), "text="),
        ({"export": "a.safetensors", "text": "x", "dtype": "int8"}, (), "text=, dtype="),
    ],
)
def test_an_option_without_effect_is_refused(given, parts, names):
    cfg = DEFAULTS | given
    with pytest.raises(ValueError) as error:
        reject_unused(choose_task(cfg, parts), cfg, DEFAULTS)
    assert str(error.value).startswith(f"{names} would have no effect on ")
    assert len(str(error.value).splitlines()) == 1


def test_infer_refuses_them(export, capsys, sound, tmp_path, parts):
    ears = save_export(tmp_path / "audio", {"audio": parts["audio"]}, metadata={"mel": MEL.metadata()}, files={})
    cfg = DEFAULTS | {"paths": {"checkpoints": str(tmp_path)}, "device": "cpu", "audio_in": str(sound)}
    with pytest.raises(ValueError, match="generation= would have no effect on a transcript, which takes"):
        infer.run(cfg | {"ckpt": str(ears), "generation": DEFAULTS["generation"] | {"temperature": 1.0}})
    with pytest.raises(ValueError, match="this export has no Thinker, it cannot answer"):
        infer.run(cfg | {"ckpt": str(ears), "text": "what is said?"})
    with pytest.raises(ValueError, match="text= would have no effect on the export"):
        infer.run(cfg | {"ckpt": str(export), "export": str(tmp_path / "a.safetensors"), "audio_in": None, "text": "x"})
    with pytest.raises(ValueError, match="text= and prompt= both hold the question"):
        infer.run(cfg | {"ckpt": str(export), "prompt": "x", "text": "x"})
    assert capsys.readouterr().out == ""
