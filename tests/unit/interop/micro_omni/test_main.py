"""The command: the exit status, and one line for a mistake."""

import pytest

from muomni.checkpoints.export import load_export
from muomni.interop.micro_omni.__main__ import main


def test_there_and_back(tmp_path, saved, tokenizer_path, capsys):
    files = [str(saved(name)) for name in ("omni.pt", "talker.pt")]
    out = tmp_path / "out"
    arguments = [f"out={out}", f"tokenizer={tokenizer_path}", "modules=thinker,codec", "thinker.max_length=256"]
    assert main(["import", *files, *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith(f"written: {out}\n")
    assert load_export(out).modules["thinker"].max_length == 256
    assert main(["export", str(out), f"out={tmp_path / 'thinker.pt'}", "parts=thinker"]) == 0
    assert main(["import", files[1], f"out={tmp_path / 'voice'}", "fill=true"]) == 0
    assert set(load_export(tmp_path / "voice").modules) == {"codec", "talker"}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["import", "a.pt"], "usage:  python -m muomni.interop.micro_omni import FILE.pt out="),
        (["export", "a", "b", "out=c.pt"], "python -m muomni.interop.micro_omni export checkpoints/NAME out=FILE.pt"),
        (["import", "a.pt", "out=x", "fil=true"], "unknown option 'fil'; available: out, tokenizer, modules, fill"),
        (
            ["export", "a", "out=x.pt", "thinker.num_heads=3"],
            "unknown option 'thinker.num_heads'; available: out, modules",
        ),
        (["import", "a.pt", "out=x", "fill=yes"], "fill=yes: true or false"),
        (["import", "a.pt", "out=x", "thinker.num_heads=four"], "thinker.num_heads=four: a number above 0"),
        (["import", "a.pt", "out=x", "thinker.num_heads=-1"], "a number above 0"),
        (["import", "a.pt", "out=x"], "no such checkpoint: a.pt"),
        (["export", "none", "out=x.pt"], "none: no export here"),
    ],
)
def test_mistakes_are_one_line(arguments, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        main(arguments)
    assert match in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["convert"]])
def test_no_command_shows_the_help(arguments, capsys):
    assert main(arguments) == 2
    assert "python -m muomni.interop.micro_omni import FILE" in capsys.readouterr().err
