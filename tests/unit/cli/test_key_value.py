"""KEY=VALUE words take the type of their default."""

import sys

import pytest

from muomni.cli.key_value import read_options, run_program, split_options

DEFAULTS = {"name": "", "count": 3, "share": 0.5, "quick": False, "stages": ("a", "b")}


def test_values_take_the_type_of_the_default():
    assert read_options([], DEFAULTS) == DEFAULTS
    words = ["name=a=b", "count=4", "share=1", "quick=true", "stages=x, y"]
    assert read_options(words, DEFAULTS) == {
        "name": "a=b",
        "count": 4,
        "share": 1.0,
        "quick": True,
        "stages": ("x", "y"),
    }


@pytest.mark.parametrize(
    ("word", "problem"),
    [("other=1", "unknown option 'other'; available: name, count"), ("count", "unknown option 'count'"),
     ("count=1.5", "count=1.5: a whole number is needed"), ("share=x", "share=x: a number is needed"),
     ("quick=1", "quick=1: true or false")],
)  # fmt: skip
def test_mistakes_are_named(word, problem):
    with pytest.raises(ValueError, match=problem):
        read_options([word], DEFAULTS)


def test_other_words_are_handed_back():
    assert split_options(["optim.lr=1", "count=4", "FILE"], DEFAULTS) == (
        DEFAULTS | {"count": 4},
        ["optim.lr=1", "FILE"],
    )


def test_help_is_what_the_program_says_of_itself(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["program", "--help"])
    monkeypatch.setattr(sys.modules[__name__], "__doc__", "python -m program KEY=VALUE")
    with pytest.raises(SystemExit) as ended:
        run_program(lambda words: pytest.fail("it must not run"))
    assert ended.value.code == 0
    assert capsys.readouterr().out == "python -m program KEY=VALUE\n"


@pytest.mark.parametrize("code", [1, 2])
def test_a_programs_mistake_is_one_line(monkeypatch, capsys, code):
    monkeypatch.setattr("sys.argv", ["program", "other=1"])
    with pytest.raises(SystemExit) as ended:
        run_program(lambda words: read_options(words, DEFAULTS), mistake=code)
    assert ended.value.code == code
    said = capsys.readouterr().err
    assert said.startswith("error: unknown option 'other'") and said.count("\n") == 1


def test_control_c_has_no_traceback(monkeypatch, capsys):
    def interrupted(words):
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", ["program"])
    with pytest.raises(SystemExit) as ended:
        run_program(interrupted)
    assert (ended.value.code, capsys.readouterr().err) == (130, "interrupted\n")
