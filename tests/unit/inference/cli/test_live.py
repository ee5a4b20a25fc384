"""The demo's last words: questions of a file answered in the terminal, one of them aloud, and what to type next."""

import json
import shutil

import pytest
import soundfile

from muomni.inference.cli.live import main


@pytest.fixture
def questions(tmp_path, picture, sound):
    shutil.copyfile(picture, tmp_path / "1.png")
    shutil.copyfile(sound, tmp_path / "2.wav")
    rows = [
        {"title": "a picture", "text": "what colour", "image": "1.png", "truth": "red"},
        {"title": "asked aloud", "said": "what colour", "image": "1.png", "audio": "2.wav", "truth": "red"},
        {"title": "a spoken answer", "text": "tell me 1 2 3", "audio_out": "said/3.wav", "truth": "1 2 3"},
    ]
    path = tmp_path / "ask.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_answers_are_those_of_the_model_and_the_last_one_is_spoken(questions, export, engine, capsys):
    main([f"ckpt={export}", f"questions={questions}"])
    printed = capsys.readouterr().out
    first = engine.chat("what colour", image=str(questions.parent / "1.png"))
    assert f"> what colour\n   {' '.join(first.split())[:100]}" in printed and "(true answer: red)" in printed
    assert "(in the recording) what colour" in printed
    assert soundfile.info(questions.parent / "said" / "3.wav").frames > 0
    following = printed.split("Type next:")[1]
    assert f"image={questions.parent / '1.png'}" in following and f"audio_in={questions.parent / '2.wav'}" in following
    assert "make serve" in following


def test_a_file_that_is_lacking_or_damaged_is_named(tmp_path, export):
    with pytest.raises(FileNotFoundError, match=r"ask\.jsonl: there is no such file: python -m muomni\.report"):
        main([f"questions={tmp_path / 'ask.jsonl'}"])
    (tmp_path / "ask.jsonl").write_text('{"title": "a"}\nno json\n')
    with pytest.raises(ValueError, match=r"ask\.jsonl, line 2: a JSON object is needed"):
        main([f"ckpt={export}", f"questions={tmp_path / 'ask.jsonl'}"])
