"""Whatever a user gives: it is handled, or it is one line that says what is wrong and how to mend it. Never a traceback."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
import soundfile
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

import infer
from muomni.checkpoints.export import save_export
from muomni.cli.errors import CONF, one_line_errors
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.load import load_model
from muomni.inference.prompt import Request
from muomni.models.codec import Codec
from tests.unit.inference.conftest import IMAGE, MEL

INVALID = b"what \xff colour".decode("utf-8", "surrogateescape")  # as the shell's bytes reach Python


@pytest.fixture
def ask(export, capsys):
    """infer.py's options -> (standard output, error line or ""). Anything but an answer or one line fails the test."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("infer", ["paths.output=."]), resolve=True)

    def run(**changes):
        answers = changes.keys() & {"text", "image", "video", "audio_in"} and not changes.get("transcribe")
        generation = config["generation"] | ({"max_new_tokens": 4} if answers else {}) | changes.pop("generation", {})
        cfg = config | {"ckpt": str(export), "device": "cpu", "quiet": True, "generation": generation} | changes
        error = ""
        try:
            with one_line_errors():
                infer.run(cfg)
        except SystemExit as stop:
            error = str(stop)
            assert error.startswith("error: ")
            assert len(error.splitlines()) == 1
            assert "Traceback" not in error
        return capsys.readouterr().out, error

    return run


def picture(path, size=(8, 8), mode="RGB", **how):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).convert(mode)
    image.save(path, **how)
    return str(path)


def wav(path, samples, rate=16000, **how):
    soundfile.write(path, np.asarray(samples, dtype=np.float32), rate, **how)
    return str(path)


def noise(*shape):
    return np.random.default_rng(0).normal(0, 0.1, shape)


# --- text ----------------------------------------------------------------------------------------------------------


def test_a_context_that_overflows(ask, engine):
    long = "what colour is the circle " * 60
    assert ask(text=long)[1].startswith("error: Too many tokens: ")
    assert "> 128 (" in ask(text=long)[1] and "truncate=true" in ask(text=long)[1]
    assert ask(text=long, truncate=True) == (ask(text=long, truncate=True)[0], "")
    assert "Too many tokens" in ask(text="what", generation={"max_new_tokens": 500}, truncate=True)[1]
    assert "Too many tokens" in ask(text="what", system_prompt=long)[1]
    assert ask(text="what", generation={"max_new_tokens": None})[1] == ""  # until the context is full
    with pytest.raises(ValueError, match="Too many tokens"):
        engine.generate(messages=[{"role": "user", "content": long}], truncate=True)
    short = engine.generate_batch([long, "tell me"], truncate=True, max_new_tokens=6)
    assert short == [engine.generate(text, truncate=True, max_new_tokens=6) for text in (long, "tell me")]


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_an_empty_prompt(ask, engine, text):
    assert ask(text=text)[1].startswith("error: text= is empty")
    with pytest.raises(ValueError, match="empty request: give text, an image or audio"):
        engine.generate(text)
    with pytest.raises(ValueError, match="empty request"):
        engine.generate_batch(["tell me", text])
    with pytest.raises(ValueError, match="empty text cannot be spoken"):
        engine.generate_speech(text)
    with pytest.raises(ValueError, match="nothing in '你好' can be spoken"):
        engine.generate_speech("你好")


def test_text_that_is_no_utf8(ask, engine, tmp_path):
    line = "error: the text is no valid UTF-8 at character 6 ('\\udcff'): give it as UTF-8"
    assert ask(text=INVALID) == ("", line)
    assert ask(text="hi", system_prompt=INVALID)[1] == line
    with pytest.raises(ValueError, match="no valid UTF-8"):
        engine.generate_speech(INVALID)
    assert "no such image file" in ask(text="hi", image=INVALID)[1]
    assert ask(text="hi", generation={"stop": [INVALID]})[1] == ""


@pytest.mark.parametrize("text", ["\x00", "\u202e\u0301", "🙂" * 20, "a" * 90, "<user><s></s>"])
def test_odd_but_valid_text_is_answered(ask, text):
    assert ask(text=text)[1] == ""


def test_an_empty_prompt_of_a_plain_language_model_begins_a_text(tmp_path, parts, tokenizer_path):
    folder = save_export(
        tmp_path / "thinker", {"thinker": parts["thinker"]}, metadata={"stage": "thinker"},
        files={"tokenizer.model": tokenizer_path},
    )  # fmt: skip
    plain = load_model(folder, device="cpu")
    assert plain.generate("", max_new_tokens=5) == plain.generate_batch([""], max_new_tokens=5)[0]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([{"role": "wizard", "content": "x"}], "unknown role 'wizard'"),
        ([{"role": "assistant", "content": "x"}], "must alternate"),
        ([{"role": "user", "content": [{"type": "smell"}]}], "'smell'"),
        ([{"content": "x"}], "unknown role None"),
    ],
)
def test_messages_out_of_order(engine, messages, reason):
    with pytest.raises(ValueError, match=reason):
        engine.generate(messages=messages)


# --- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_pictures_of_any_mode_are_seen(ask, tmp_path, mode):
    path = tmp_path / ("a.png" if mode not in ("CMYK", "YCbCr") else "a.tiff" if mode == "CMYK" else "a.jpg")
    if mode == "I;16":
        Image.fromarray((noise(9, 9) * 1000 + 9000).astype(np.uint16)).save(path)
    else:
        picture(path, (9, 9), mode)
    assert ask(text="what", image=str(path))[1] == ""


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (33, 31)])
def test_pictures_of_any_shape_are_seen(ask, tmp_path, size):
    assert ask(image=picture(tmp_path / "a.png", size))[1] == ""


@pytest.mark.parametrize(("side", "line"), [(20000, "too large: at most"), (9000, "too large: 9000 x 9000, at most")])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(ask, tmp_path, side, line):
    """Nothing is decoded: behind the header there is but an 8 x 8 picture."""
    path = tmp_path / "huge.png"
    Image.new("1", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    assert f"huge.png is {line}" in ask(image=str(path))[1]
    assert "huge.png" in ask(video=str(path))[1]


def test_an_animated_picture_is_its_first_frame_or_a_video(ask, tmp_path):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a.png")
    assert ask(text="what", image=str(tmp_path / "a.gif")) == ask(text="what", image=str(tmp_path / "a.png"))
    assert ask(text="what", video=str(tmp_path / "a.gif"))[1] == ""


def test_damaged_and_wrong_pictures(ask, engine, tmp_path, sound):
    whole = picture(tmp_path / "a.jpg", (64, 64))
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:400])
    (tmp_path / "empty.png").touch()
    for path in ("cut.jpg", "empty.png"):
        assert f"cannot read {tmp_path}/{path} as an image" in ask(image=str(tmp_path / path))[1]
    assert "as an image" in ask(image=str(sound))[1]
    assert "no such image file" in ask(image=str(tmp_path))[1]
    assert "no such image file: gone.png" in ask(image="gone.png")[1]
    for wrong in (torch.zeros(8, 8, dtype=torch.uint8), torch.zeros(3, 8, 8)):
        with pytest.raises(ValueError, match="uint8"):
            engine.generate("what", image=wrong)
    with pytest.raises(ValueError, match="uint8"):
        engine.generate("what", image=torch.zeros(3, 0, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="an array uint8"):
        engine.generate("what", image=np.zeros((8, 8, 3)))
    assert engine.generate("what", image=Image.open(whole)) == engine.generate("what", image=whole)


def test_videos_without_frames(ask, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    assert "holds no images" in ask(video=str(tmp_path / "empty"))[1]
    assert "a.gif as a video" in ask(video=str(tmp_path / "a.gif"))[1]
    assert "no such video" in ask(video=str(tmp_path / "gone.mp4"))[1]
    assert ask(video=str(tmp_path / "a.gif"), video_frames=0)[1].startswith("error: video_frames=0: a whole number")


# --- sound ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {"samples": noise(8000, 2)},
        {"samples": noise(8000), "subtype": "PCM_U8"},
        {"samples": noise(48000), "rate": 96000},
        {"samples": noise(4000), "rate": 8000},
        {"samples": noise(8000), "subtype": "DOUBLE"},
        {"samples": np.zeros(8000)},
        {"samples": 50 * noise(8000), "subtype": "FLOAT"},
    ],
)
def test_sounds_of_any_kind_are_heard(ask, tmp_path, how):
    path = wav(tmp_path / "a.wav", **how)
    assert ask(audio_in=path)[1] == ""
    assert ask(audio_in=path, transcribe=True)[1] == ""


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(0), "empty: it holds no samples"),
        ([0.0, float("nan")] * 800, "holds NaN or Inf"),
        ([0.0, float("inf")] * 800, "holds NaN or Inf"),
        (np.zeros(100), "too short: 100 samples at 16000 Hz, one frame needs 160"),
    ],
)
@pytest.mark.parametrize("transcribe", [False, True])
def test_sounds_that_cannot_be_heard(ask, tmp_path, samples, reason, transcribe):
    path = wav(tmp_path / "a.wav", samples, subtype="FLOAT")
    _, error = ask(audio_in=path, transcribe=transcribe)
    assert "a.wav" in error and reason in error


@pytest.mark.parametrize("samples", [160, 161, 319, 640])
def test_the_shortest_sounds_are_heard(ask, engine, tmp_path, samples):
    path = wav(tmp_path / "a.wav", noise(samples))
    assert ask(audio_in=path)[1] == ""
    assert ask(audio_in=path, transcribe=True)[1] == ""
    assert engine.generate_batch([Request(audios=[path]), "tell me"], max_new_tokens=4)[1] == engine.generate(
        "tell me", max_new_tokens=4
    )


def test_damaged_and_wrong_sounds(ask, engine, tmp_path, picture):
    (tmp_path / "cut.wav").write_bytes(b"RIFF\x00\x00")
    assert "cut.wav as audio" in ask(audio_in=str(tmp_path / "cut.wav"))[1]
    assert "as audio" in ask(audio_in=str(picture))[1]
    assert "no such audio file" in ask(audio_in=str(tmp_path))[1]
    wav(tmp_path / "a.wav", noise(16000))
    (tmp_path / "half.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:9001])
    assert ask(audio_in=str(tmp_path / "half.wav"))[1] == ""  # what is there is heard
    for wrong in (torch.zeros(2, 800), torch.zeros(800, dtype=torch.int16), torch.full((800,), float("nan"))):
        with pytest.raises(ValueError, match="waveform"):
            engine.transcribe(wrong)
    with pytest.raises(ValueError, match="a mono array"):
        engine.generate(audio=np.zeros((800, 2)))


def test_a_sound_of_many_tokens_is_an_error_or_cut(ask, engine, tmp_path):
    path = wav(tmp_path / "long.wav", noise(16000 * 3))
    assert "long.wav: 38 audio tokens, at most 32 (a quarter of the context): shorten it" in ask(audio_in=path)[1]
    assert ask(audio_in=path, truncate=True)[1] == ""
    features = engine.prompter.encode_media(Request(audios=[path], truncate=True))
    assert features.audio_lengths.tolist() == [32]


# --- options and parts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"generation": {"temperature": -1}}, "temperature=-1 is out of its range: 0 (greedy) or more"),
        ({"generation": {"temperature": "hot"}}, "temperature=hot"),
        ({"generation": {"top_p": 0}}, "top_p=0 is out of its range: above 0, at most 1 (off)"),
        ({"generation": {"top_p": 2}}, "top_p=2"),
        ({"generation": {"stop": [1]}}, "stop=[1]"),
        ({"generation": {"stop": None}}, "stop=[None]"),
        ({"generation": {"stop": 3}}, "stop=[3]"),
        ({"generation": {"heat": 3}}, "unknown generation option 'heat'"),
        ({"threads": 10**6}, "threads=1000000: at most 1024"),
        ({"audio_in": "a.wav", "transcribe": True, "beams": 10**6}, "beams=1000000: a whole number from 1 (greedy) to"),
        (
            {"audio_in": "a.wav", "transcribe": True, "beams": 4, "lm": "thinker", "lm_weight": "much"},
            "lm_weight=much: a number",
        ),
        ({"generation": {"num_beams": 3, "temperature": 1.0}}, "set temperature=0"),
        ({"n_best": 3}, "n_best=3: as many beams are needed"),
        (
            {"voice": "low", "audio_out": "x.wav"},
            "voice=low: this Talker knows its voices by number, 0 to 1: train stage=talker",
        ),
        ({"threads": 0}, "threads=0: a whole number"),
        ({"echo": 3}, "echo=3: true or false"),
        ({"format": "xml"}, "unknown format 'xml'; available: chat, plain"),
        ({"device": "tpu"}, "device=tpu: available are auto, cpu"),
        ({"transcribe": True}, "transcribe=true needs audio_in=FILE"),
        ({"talker": "nowhere"}, "nowhere: no export here"),
        ({"voice": 9, "audio_out": "x.wav"}, "unknown voice 9"),
    ],
)
def test_options_out_of_range(ask, changes, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = {} if "transcribe" in changes else {"text": "what"}
    assert reason in ask(**(asked | changes))[1]
    assert not list(tmp_path.iterdir())


def test_one_string_is_no_batch(engine):
    assert engine.generate_batch([]) == engine.speak([]) == []
    for call in (engine.generate_batch, engine.generate_n_best, engine.speak):
        with pytest.raises(ValueError, match="a list of"):
            call("hello")
    with pytest.raises(ValueError, match="a voice for each"):
        engine.speak(["a", "b", "c"], voices=[0, 0])


@pytest.mark.parametrize(
    ("fact", "changes"), [("mel", {"hop": "wide"}), ("image", {"mean": 3}), ("image", {"size": "big"})]
)
def test_damaged_facts_name_the_export(ask, tmp_path, parts, tokenizer_path, fact, changes):
    metadata = {"stage": "omni_sft", "mel": MEL.metadata(), "image": IMAGE.metadata()}
    metadata[fact] = metadata[fact] | changes
    names = ("thinker", "vision", "image_projector", "audio", "audio_projector")
    folder = save_export(
        tmp_path / "omni", {name: parts[name] for name in names}, metadata=metadata,
        files={"tokenizer.model": tokenizer_path},
    )  # fmt: skip
    assert f"omni/model.yaml: the facts of {fact!r} are damaged" in ask(ckpt=str(folder), text="x")[1]


def test_files_that_cannot_be_written(ask, tmp_path, export):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a.wav", tmp_path):
        assert f"cannot write {path}: a folder, or a file" in ask(text="what", audio_out=str(path))[1]
    (tmp_path / "a.safetensors").mkdir()
    assert "is in the way" in ask(export=str(tmp_path / "a.safetensors"))[1]
    assert "ends with .safetensors" in ask(export=str(tmp_path / "a.pt"))[1]


def test_a_file_that_is_no_export(ask, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    assert "notes.txt: cannot be read as an export" in ask(text="x", ckpt=str(tmp_path / "notes.txt"))[1]
    assert "sound.wav: cannot be read as an export" in ask(text="x", ckpt=wav(tmp_path / "sound.wav", noise(9)))[1]
    for content in ({"export": {}}, {"export": {"document": {}}}):
        torch.save(content, tmp_path / "a.ckpt")
        assert "a.ckpt: not a checkpoint of muomni" in ask(text="x", ckpt=str(tmp_path / "a.ckpt"))[1]
    torch.save(torch.nn.Linear(1, 1), tmp_path / "a.ckpt")
    assert "nothing in it is executed" in ask(text="x", ckpt=str(tmp_path / "a.ckpt"))[1]
    assert "is not an export; exports under" in ask(text="x", ckpt=str(tmp_path))[1]


@pytest.mark.parametrize(
    ("held", "changes", "reason"),
    [
        (("codec",), {"text": "x"}, "this export has no Thinker"),
        (("codec",), {}, "this export has no Thinker"),
        (("thinker",), {"text": "x", "image": "a.png"}, "no vision encoder"),
        (("thinker",), {"audio_in": "a.wav"}, "no audio encoder"),
        (("thinker",), {"text": "x", "audio_out": "a.wav"}, "this export has no Talker: train stage=talker"),
        (
            ("thinker",),
            {"audio_in": "a.wav", "transcribe": True},
            "this export has no audio encoder: train stage=audio",
        ),
        (("talker", "thinker"), {"text": "x"}, "this export has no codec"),
        (
            ("talker", "codec"),
            {"text": "x", "generation": {"max_new_tokens": 100}},
            "this export only speaks: name the audio file by audio_out=FILE",
        ),
        (("audio",), {"text": "x"}, "this export has no Thinker"),
    ],
)
def test_an_export_without_the_part_that_is_needed(ask, tmp_path, parts, tokenizer_path, held, changes, reason):
    metadata = {"stage": "omni_sft", "mel": MEL.metadata(), "image": IMAGE.metadata()}
    folder = save_export(
        tmp_path / "few",
        {name: parts[name] for name in held},
        metadata=metadata,
        files={"tokenizer.model": tokenizer_path},
    )
    _, error = ask(ckpt=str(folder), **changes)
    assert reason in error


def test_a_codec_that_does_not_fit_the_talker_is_refused_and_no_noise_made(tmp_path, parts):
    other = Codec(n_mels=32, stride=8, dim=8, num_codebooks=2, codebook_size=8, num_layers=1, width=16, kernel=3,
                  ff_dim=32, decay=0.99, dropout=0.0, idle=0.0)  # fmt: skip
    folder = save_export(
        tmp_path / "talker", {"talker": parts["talker"], "codec": other}, metadata={"mel": MEL.metadata()}, files={}
    )
    with pytest.raises(ValueError, match="the Talker speaks 2 codebooks of 16, this codec has 2 of 8"):
        load_model(folder, device="cpu")


def test_an_answer_in_characters_that_the_terminal_lacks(export, monkeypatch, tmp_path):
    """`python infer.py ... echo=true` under PYTHONIOENCODING=ascii."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(
        sys, "argv",
        ["infer.py", f"ckpt={export}", "text=μ?", "echo=true", "quiet=true", "device=cpu", "generation.max_new_tokens=2"],
    )  # fmt: skip
    infer.main()
    stream.flush()
    assert stream.buffer.getvalue().startswith(b"?? ")


def test_the_vocabulary_of_another_model_is_refused(tmp_path, parts):
    Tokenizer.train(["another text of other words"] * 9, 285, tmp_path / "tokenizer.model")
    folder = save_export(
        tmp_path / "thinker", {"thinker": parts["thinker"]}, metadata={},
        files={"tokenizer.model": tmp_path / "tokenizer.model"},
    )  # fmt: skip
    with pytest.raises(ValueError, match="the tokenizer has 285 pieces, the Thinker 300"):
        load_model(folder, device="cpu")
