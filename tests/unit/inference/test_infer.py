"""infer.py: the command line of inference."""

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import infer
from muomni.checkpoints.export import save_export
from muomni.cli.verbatim import split_arguments
from muomni.frontends.audio_io import read_audio
from muomni.inference.answer import AnswerStream, Piece
from muomni.inference.asr.ngram import train_ngram
from muomni.inference.asr.transcript import Transcript
from muomni.inference.decoding.options import PRESETS, GenerationOptions
from muomni.inference.decoding.timings import Timings
from muomni.inference.load import load_model
from muomni.models.ocr import Ocr
from tests.unit.inference.conftest import IMAGE

ROOT = Path(infer.__file__).parent


def config(*overrides: str) -> dict:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return OmegaConf.to_container(compose("infer", ["paths.output=.", *overrides]), resolve=True)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_configured_presets_are_those_of_the_code(name):
    assert GenerationOptions(**config(f"generation={name}")["generation"]) == PRESETS[name]


@pytest.mark.parametrize("text", ['say "a, b={1}"', "[x]", "a=b", "line\nline", "漢字 🙂", "${paths.root}", "-x", ""])
def test_strings_come_as_the_shell_passed_them(text):
    raw, rest = split_arguments(
        [f"text={text}", "generation=chat", f"prompt={text}", "quiet=true"], strings=infer.STRINGS
    )
    assert raw == {"text": text, "prompt": text}
    assert rest == ["generation=chat", "quiet=true"]


def test_a_missing_export_lists_those_at_hand(export):
    for ckpt in (None, "nowhere"):
        with pytest.raises(ValueError, match=r"exports under .*: .*omni_sft"):
            infer.find_export(ckpt, export.parent)
    with pytest.raises(ValueError, match=r"none; python train\.py"):
        infer.find_export(None, export.parent / "empty")
    assert infer.find_export(str(export), export.parent) == export


def run(export, capsys, *, reads=False, **changes):
    generation = ({} if reads or changes.get("transcribe") else {"max_new_tokens": 6}) | changes.pop("generation", {})
    overrides = [f"generation.{key}={value}" for key, value in generation.items()]
    infer.run(config(*overrides) | {"ckpt": str(export), "device": "cpu"} | changes)
    return capsys.readouterr()


def test_the_answer_alone_is_on_standard_output(export, engine, capsys):
    out = run(export, capsys, text="what colour")
    assert out.out == engine.generate("what colour", max_new_tokens=6) + "\n"
    assert "tokens/s" in out.err
    quiet = run(export, capsys, text="what colour", quiet=True)
    assert (quiet.out, quiet.err) == (out.out, "")
    assert run(export, capsys, text="what colour", echo=True).out == f"what colour {out.out}"


def test_media_bring_their_default_question(export, engine, capsys, picture, sound):
    answer = engine.generate("describe the picture", image=picture, max_new_tokens=6)
    assert run(export, capsys, image=str(picture)).out == answer + "\n"
    answer = engine.generate("write down what you hear", audio=sound, max_new_tokens=6)
    assert run(export, capsys, audio_in=str(sound)).out == answer + "\n"
    answer = engine.generate("tell me", image=picture, max_new_tokens=6)
    assert run(export, capsys, image=str(picture), prompt="tell me").out == answer + "\n"
    assert run(export, capsys, audio_in=str(sound), transcribe=True).out == engine.transcribe(sound) + "\n"


def test_a_transcript_takes_beams_a_language_model_and_times(export, engine, capsys, sound, tmp_path):
    lm = train_ngram(["hello there", "what colour is it"], order=3, unit="character")
    lm.save(tmp_path / "lm.arpa")
    hear = {"audio_in": str(sound), "transcribe": True, "quiet": True}
    told = run(export, capsys, **hear, beams=4, lm=str(tmp_path / "lm.arpa"), lm_weight=2.0).out
    assert told == engine.transcribe(sound, beams=4, lm=lm, lm_weight=2.0) + "\n" != run(export, capsys, **hear).out
    assert (
        run(export, capsys, **hear, beams=4, lm="thinker").out == engine.transcribe(sound, beams=4, lm="thinker") + "\n"
    )
    words = engine.transcribe(sound, timestamps=True)
    assert run(export, capsys, **hear, timestamps=True).out == "\n".join(words.lines()) + "\n"
    with pytest.raises(ValueError, match="transcribe=true needs audio_in=FILE"):
        run(export, capsys, transcribe=True)
    for wrong in ({"beams": 4}, {"lm": "x"}, {"timestamps": True}):
        with pytest.raises(ValueError, match="belong to a transcript"):
            run(export, capsys, audio_in=str(sound), **wrong)


def test_the_spoken_answer_goes_to_a_file(export, capsys, tmp_path):
    out = run(export, capsys, text="what colour", audio_out=str(tmp_path / "a.wav"), generation={"seed": 1})
    assert (tmp_path / "a.wav").stat().st_size > 1000
    assert "real-time factor" in out.err
    assert "cut off after" in out.err  # this Talker was never trained to stop


def test_the_answer_is_spoken_while_it_is_written(export, engine, capsys, tmp_path):
    """The file holds the samples of the whole answer at the same look-ahead."""
    options = {"text": "what colour", "look_ahead": 3}
    out = run(export, capsys, audio_out=str(tmp_path / "a.wav"), **options)
    answer = engine.generate("what colour", max_new_tokens=6)
    assert out.out == answer + "\n"
    spoken = engine.generate_speech(answer, look_ahead=3)
    written = read_audio(tmp_path / "a.wav", engine.speech_rate)
    torch.testing.assert_close(written, spoken, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="look_ahead= would have no effect"):
        run(export, capsys, **options)
    with pytest.raises(ValueError, match="look_ahead=-1: a number of characters"):
        run(export, capsys, **options | {"look_ahead": -1}, audio_out=str(tmp_path / "b.wav"))


def test_a_pipe_that_is_closed_is_a_line_and_the_text_goes_on(export, engine, capsys, monkeypatch):
    class Closed:
        def write(self, data):
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(infer, "binary_output", Closed)
    with pytest.raises(BrokenPipeError):  # at its end: exit status 141
        run(export, capsys, text="what colour", audio_out="-", look_ahead=3, quiet=True)
    answer = engine.generate("what colour", max_new_tokens=6)
    line = "audio_out=-: Broken pipe; the answer goes on without sound"
    assert capsys.readouterr() == ("", f"{answer}\n{line}\n")


def test_a_chat_plays_or_writes(export, capsys):
    with pytest.raises(ValueError, match="player= plays the answers, audio_out= writes them to a file"):
        run(export, capsys, player=sys.executable, audio_out="a.wav")
    with pytest.raises(ValueError, match="player= would have no effect on an answer"):
        run(export, capsys, player=sys.executable, text="what colour")


def test_an_answer_without_words_leaves_no_sound(export, capsys, tmp_path, monkeypatch):
    marks = lambda *_, **__: AnswerStream(iter([Piece("...")]), Timings())  # noqa: E731
    monkeypatch.setattr(infer.Engine, "answer_stream", marks)
    with pytest.raises(ValueError, match=r"nothing in the answer can be spoken: .*a.wav is not written"):
        run(export, capsys, text="x", audio_out=str(tmp_path / "a.wav"))
    assert not (tmp_path / "a.wav").exists()
    with pytest.raises(ValueError, match="nothing in the answer can be spoken: audio_out=- is empty"):
        run(export, capsys, text="x", audio_out="-")


def test_an_answer_or_a_transcript_of_nothing_says_so(export, capsys, picture, sound, monkeypatch):
    blank = lambda *_, **__: AnswerStream(iter([Piece(" ")]), Timings())  # noqa: E731
    monkeypatch.setattr(infer.Engine, "answer_stream", blank)
    monkeypatch.setattr(infer.Engine, "transcript", lambda *_, **__: Transcript("", []))
    assert run(export, capsys, text="x", quiet=True) == (" \n", "the answer is empty\n")
    heard = run(export, capsys, transcribe=True, audio_in=str(sound), quiet=True)
    assert heard == ("\n", f"{sound}: no words were recognized\n")


def test_what_is_wrong_with_the_sound_is_said_before_an_answer_is_made(export, capsys, tmp_path):
    for wrong, reason in (({"voice": 77}, "unknown voice 77"), ({"audio_out": str(tmp_path)}, "a folder, or a file")):
        with pytest.raises(ValueError, match=reason):
            run(export, capsys, **({"text": "what colour", "audio_out": str(tmp_path / "a.wav")} | wrong))
        assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["text=it's [1], {2}=3"], "ckpt=EXPORT is missing; exports under"),
        (["txt=hi"], "unknown option 'txt' in the top level; available: audio_in, audio_out"),
        (["~generation"], "~generation: this option cannot be taken away"),
        (["~ckpt"], "~ckpt: this option cannot be taken away"),
        (["generation=null"], "generation=null: Config group override must be a string"),
        (["generation.heat=1"], "unknown option 'heat' in generation; available: frequency_penalty, length_penalty"),
    ],
)
def test_the_program_says_what_is_wrong_in_one_line(tmp_path, capsys, monkeypatch, arguments, reason):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(ROOT / "infer.py"), f"paths.root={tmp_path}", *arguments])
    with pytest.raises(SystemExit) as stop:
        infer.main()
    assert str(stop.value).startswith(f"error: {reason}")
    assert len(str(stop.value).splitlines()) == 1
    assert capsys.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_a_reader_reads_pictures_and_nothing_else(tmp_path, capsys, picture, engine):
    reader = Ocr(num_symbols=107, max_characters=5, image_size=IMAGE.size, patch=8, stem_channels=[], stem_patch=2,
                 encoder_layers=1, num_layers=1, dim=16, num_heads=2, ff_dim=32)  # fmt: skip
    folder = save_export(
        tmp_path / "ocr", {"ocr": reader}, metadata={"stage": "ocr", "image": IMAGE.metadata()}, files={}
    )
    assert (
        run(folder, capsys, reads=True, image=str(picture)).out == load_model(folder, device="cpu").read(picture) + "\n"
    )
    for wrong, reason in (({}, "give image=FILE"), ({"image": str(picture), "text": "what?"}, "text= would have no")):
        with pytest.raises(ValueError, match=reason):
            run(folder, capsys, reads=True, **wrong)
    with pytest.raises(ValueError, match="train stage=ocr"):
        engine.read(picture)


# --- standard input and output, batches -----------------------------------------------------------------------------


class Standard(io.TextIOWrapper):
    """A standard stream of these bytes."""

    def __init__(self, data=b""):
        super().__init__(io.BytesIO(data), write_through=True)


def test_text_and_audio_come_from_standard_input(export, engine, capsys, sound, monkeypatch):
    monkeypatch.setattr("sys.stdin", Standard(b"what colour\r\n"))
    assert run(export, capsys, text="-").out == engine.generate("what colour", max_new_tokens=6) + "\n"
    monkeypatch.setattr("sys.stdin", Standard(sound.read_bytes()))
    assert run(export, capsys, audio_in="-", transcribe=True).out == engine.transcribe(sound) + "\n"
    for data, message in ((b"\xff\xfe", "no UTF-8"), (b" \n", "is empty")):
        monkeypatch.setattr("sys.stdin", Standard(data))
        with pytest.raises(ValueError, match=message):
            run(export, capsys, text="-")
    with pytest.raises(ValueError, match="text=- and audio_in=-: standard input can be read once"):
        run(export, capsys, text="-", audio_in="-")


def test_audio_goes_to_standard_output_and_nothing_else_does(export, engine, capsys, monkeypatch):
    out = Standard()
    monkeypatch.setattr("sys.stdout", out)
    err = run(export, capsys, text="what colour", audio_out="-").err
    data = out.buffer.getvalue()
    answer = engine.generate("what colour", max_new_tokens=6)
    assert answer in err
    assert data[:4] == b"RIFF"
    samples = np.frombuffer(data[44:], "<i2") / 32767
    assert np.abs(samples - engine.generate_speech(answer).numpy()).max() < 1e-4


def test_transcripts_are_written_as_json_and_subtitles(export, engine, capsys, sound):
    transcript = engine.transcript(sound)
    hear = {"audio_in": str(sound), "quiet": True, "transcribe": True}
    for form in ("json", "srt", "vtt"):
        assert run(export, capsys, **hear, transcript=form).out == transcript.written(form) + "\n"
    with pytest.raises(ValueError, match="transcript=pdf: one of text, json, srt, vtt"):
        run(export, capsys, **hear, transcript="pdf")


def requests_file(folder, sound):
    shutil.copy(sound, folder / "a.wav")
    lines = [{"id": "a", "text": "what colour"}, {"text": "tell me", "id": 7}, {"audio": "a.wav"}, "{", {"txt": 1},
             {"image": "none.png"}, {"text": ""}, {"messages": [{"role": "user", "content": "what"}], "id": None}]  # fmt: skip
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines[:2])
    text += "\n\n" + "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines[2:]) + "\n"
    path = folder / "in.jsonl"
    path.write_text(text)
    return path


def test_a_batch_of_requests(export, engine, capsys, sound, tmp_path):
    source, out = requests_file(tmp_path, sound), tmp_path / "out.jsonl"
    noted = run(export, capsys, batch=str(source), out=str(out), batch_size=3)
    assert noted.out == ""
    assert "4 of them errors" in noted.err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["line"] for row in rows] == [1, 2, 4, 5, 6, 7, 8, 9]  # the third is blank
    assert [row.get("id", "-") for row in rows] == ["a", 7, "-", "-", "-", "-", "-", None]
    assert rows[0]["text"] == engine.generate("what colour", max_new_tokens=6)
    assert rows[2]["text"] == engine.generate(audio=sound, max_new_tokens=6)
    assert rows[7]["text"] == engine.generate("what", max_new_tokens=6)
    assert set(rows[0]) == {"line", "id", "text", "finish_reason", "prompt_tokens", "completion_tokens"}
    for row, part in (
        (3, "line 5: no JSON"),
        (4, "line 6: unknown key 'txt'"),
        (5, "line 7"),
        (6, "line 8: an empty request"),
    ):
        assert part in rows[row]["error"]["message"]
    assert rows[4]["error"]["param"] == "txt"


def test_an_interrupted_batch_is_continued(export, capsys, sound, tmp_path):
    source, out = requests_file(tmp_path, sound), tmp_path / "out.jsonl"
    run(export, capsys, batch=str(source), out=str(out), batch_size=3)
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    for kept in (0, 1, 4, 8):
        out.write_bytes(b"".join([*lines[:kept], b'{"line": 1' if kept < 8 else b""]))
        run(export, capsys, batch=str(source), out=str(out), batch_size=3)
        assert out.read_bytes() == whole
    marked = lines[0].replace(b'"a"', b'"kept"')
    out.write_bytes(marked)
    run(export, capsys, batch=str(source), out=str(out), batch_size=3)
    assert out.read_bytes() == marked + b"".join(lines[1:])
    out.write_text("notes of mine\n")
    with pytest.raises(ValueError, match="line 1 is no answer to these requests"):
        run(export, capsys, batch=str(source), out=str(out))
    assert out.read_text() == "notes of mine\n"
    with pytest.raises(ValueError, match="belong together"):
        run(export, capsys, batch=str(source))
