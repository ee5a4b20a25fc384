"""Mistakes on the command line become one line that says what was possible."""

import errno
import sys
from pathlib import Path

import hydra
import pytest
from hydra import compose
from hydra.utils import instantiate
from omegaconf import OmegaConf

from muomni.cli import ablations
from muomni.cli.errors import CONF, check_overrides, one_line_errors, read_words, run_main, run_once


@pytest.mark.parametrize("override", ["ablation=gqa", "optim=adamw", "tag=x"])
def test_an_option_of_the_other_program_is_named(override):
    problem = check_overrides(["ckpt=x", override], config="infer")
    assert problem is not None and repr(override.partition("=")[0]) in problem and "\n" not in problem, problem


def test_a_right_command_line_is_silent():
    assert check_overrides(["stage=thinker", "optim.lr=1e-3", "data=text"], config="train") is None


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stage=thinkr", ["thinkr", "thinker"]),
        (
            "logger=[csv,tensorbord]",
            ["logger=tensorbord: there is none of this name", "csv, mlflow, tensorboard, trackio, wandb"],
        ),
        ("size=huge", ["huge", "nano"]),
        ("data=nothing", ["nothing", "world", "image_text", "speech"]),
        ("budget=week", ["week", "ci", "demo", "full"]),
        ("optim=sgd", ["sgd", "adamw", "muon"]),
        ("logger=print", ["print", "csv", "tensorboard", "wandb"]),
        ("optim.learning_rate=1", ["'learning_rate' in optim", "betas", "lr"]),
        ("seeed=1", ["'seeed' in the top level", "seed", "task"]),
        ("data.sed=1", ["'sed' in data", "seed", "preset"]),
        ("data.spec.sed=1", ["'spec' in data", "seed", "preset"]),
        ("data.seed.sed=1", ["'seed' in data", "preset"]),
        ("trainer.max_step=1", ["'max_step' in trainer", "max_steps"]),
        ("trainer={max_step: 1}", ["'max_step' in trainer", "max_steps"]),
    ],
)
def test_a_wrong_name_lists_the_right_ones(override, words):
    problem = check_overrides([override], config="train")
    assert problem is not None
    assert "\n" not in problem
    for word in words:
        assert word in problem, problem


@pytest.mark.parametrize(
    ("overrides", "there", "not_there"),
    [
        (["stage=thinker", "data=text", "data.trian=x.jsonl"], "train_split", "preset"),
        (["data.trian=x.jsonl", "data=speech"], "root", "preset"),
        (["experiment=an4", "data.trian=x.jsonl", "optim.lerning=1"], "train_split", "preset"),
        (["stage=vocoder", "module.adversarial=1"], "adversarial_from", "length_exponent"),
        (["stage=thinker", "optim=adamw", "optim.momentum=1"], "betas", "momentum,"),
    ],
)
def test_the_list_is_that_of_the_group_that_was_chosen(overrides, there, not_there):
    problem = str(check_overrides(overrides, config="train"))
    assert "unknown option" in problem and there in problem and not_there not in problem, problem


def test_a_wrong_ablation_lists_the_named_ones():
    ablations.register()
    problem = str(check_overrides(["ablation=mqa"], config="train"))
    assert "mqa" in problem and "gqa" in problem and "moe" in problem and "\n" not in problem
    assert "gqa" in str(check_overrides(["ablation=3"], config="train"))


@pytest.mark.parametrize("override", ["stage=[", "optim.lr={"])
def test_broken_syntax_is_one_line(override):
    problem = check_overrides([override], config="train")
    assert problem
    assert "\n" not in problem


@pytest.mark.parametrize("value", ["[1,2]", "3", "true", "null"])
def test_a_group_takes_names_alone(value):
    problem = str(check_overrides([f"size={value}"], config="train"))
    assert problem.startswith(f"size={value}: "), problem


def test_a_file_name_that_no_file_can_have_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended, one_line_errors():
        Path("x" * 5000).stat()
    assert str(ended.value.code).startswith("error: File name too long: xxx") and len(str(ended.value.code)) < 200


def run(monkeypatch, arguments, main):
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        run_main(main, config="train", removable=("callbacks",))
    return ended.value.code


def test_a_wrong_override_never_reaches_the_run(monkeypatch):
    code = run(monkeypatch, ["stage=none"], lambda: pytest.fail("the run began"))
    assert str(code).startswith("error: ")


@pytest.mark.parametrize("word", ["hello", "stage"])
def test_a_word_that_is_no_option_is_one_line(monkeypatch, word):
    code = run(monkeypatch, ["seed=1", word], lambda: pytest.fail("the run began"))
    assert str(code).startswith(f"error: {word!r} is no option: give NAME=VALUE")


@pytest.mark.parametrize("word", ["~optim", "~callbacks", "~seed=0", "~trainer.precision"])
def test_what_the_program_reads_cannot_be_taken_away(monkeypatch, word):
    """Hydra takes anything away; the program then failed with a KeyError."""
    code = run(monkeypatch, [word], lambda: pytest.fail("the run began"))
    assert code == f"error: {word}: this option cannot be taken away, only be given another value, NAME=VALUE; " + (
        "what can be is ~callbacks.NAME"
    )


def test_a_guard_can_be_taken_away_if_there_is_one(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "~callbacks.gradient_guard"])
    run_main(lambda: None, config="train", removable=("callbacks",))
    code = run(monkeypatch, ["~callbacks.guardian"], lambda: pytest.fail("the run began"))
    assert "'callbacks.guardian' does not exist" in str(code) and len(str(code).splitlines()) == 1


def test_a_group_of_nothing_is_one_line(monkeypatch):
    assert "must be a string or a list" in str(run(monkeypatch, ["optim=null"], lambda: pytest.fail("the run began")))


def test_hydra_adds_no_line_of_its_own(monkeypatch, tmp_path, capsys):
    """Through a real `hydra.main`, as train.py does it."""
    monkeypatch.chdir(tmp_path)

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="infer")
    @one_line_errors()
    def main(cfg):
        raise ValueError("line 3 is bad")

    assert run(monkeypatch, [], main) == "error: line 3 is bad"
    assert capsys.readouterr().err == ""


def test_a_program_without_a_run_folder_composes_once(monkeypatch):
    composed, seen = [], []
    monkeypatch.setattr("muomni.cli.errors.compose", lambda *a, **k: (composed.append(a), compose(*a, **k))[1])
    monkeypatch.setattr("muomni.cli.errors.hydra.main", lambda **_: pytest.fail("hydra.main composes twice"))
    monkeypatch.setattr(sys, "argv", ["infer.py", "threads=3", "generation=chat"])
    run_once(seen.append, config="infer")
    (config,) = seen
    plain = OmegaConf.to_container(config, resolve=True)
    assert len(composed) == 1 and plain["threads"] == 3 and plain["generation"]["temperature"] > 0
    assert "hydra" not in plain and plain["paths"]["output"] == "."


def test_hydras_flags_are_hydras(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["infer.py", "threads=3", "--cfg", "job"])
    run_once(lambda _: pytest.fail("the program began"), config="infer")
    assert "\nthreads: 3\n" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [[], ["--cfg", "job"]])
def test_a_wrong_word_never_reaches_a_program_without_a_run_folder(monkeypatch, flags):
    monkeypatch.setattr(sys, "argv", ["infer.py", "threds=3", *flags])
    with pytest.raises(SystemExit) as ended:
        run_once(lambda _: pytest.fail("the program began"), config="infer")
    assert str(ended.value.code).startswith("error: unknown option 'threds'")


def fail(error):
    raise error


@pytest.mark.parametrize("error", [ValueError("bad line 3"), FileNotFoundError("x.jsonl: no such manifest")])
def test_a_users_mistake_is_one_line(monkeypatch, error):
    assert run(monkeypatch, [], lambda: fail(error)) == f"error: {error}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"real": "x"}, ["module.part", "malformed"]),
        ({"rael": 2.0}, ["module.part", "rael"]),
    ],
)
def test_a_mistake_inside_a_constructor_names_the_option(monkeypatch, options, words):
    config = OmegaConf.create({"module": {"part": {"_target_": "builtins.complex"} | options}})
    code = run(monkeypatch, [], lambda: instantiate(config))
    assert all(word in str(code) for word in ["error: ", *words]), code


def test_a_bug_keeps_its_traceback_and_a_user_can_ask_for_one(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(KeyError):
        run_main(lambda: fail(KeyError("bug")), config="train", removable=("callbacks",))
    monkeypatch.setenv("MUOMNI_TRACEBACK", "1")
    with pytest.raises(ValueError, match="mine"):
        run_main(lambda: fail(ValueError("mine")), config="train", removable=("callbacks",))


def test_ctrl_c_ends_with_130(monkeypatch, capsys):
    assert run(monkeypatch, [], lambda: fail(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_what_the_disk_says_is_one_line(monkeypatch, tmp_path):
    monkeypatch.delenv("MUOMNI_TRACEBACK", raising=False)
    with pytest.raises(SystemExit, match=r"error: Permission denied: /nowhere/x"), one_line_errors():
        raise PermissionError(errno.EACCES, "Permission denied", "/nowhere/x")
    with pytest.raises(SystemExit, match="error: No space left on device"), one_line_errors():
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(IsADirectoryError), one_line_errors():
        tmp_path.read_text()


def test_a_long_value_is_cut_short():
    problem = check_overrides([f"size={'x' * 3000}"], config="train")
    assert problem is not None and "size/xxx" in problem and len(problem) < 1000


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_a_multirun_is_said_anywhere(flag):
    """Between options argparse would refuse what comes after it."""
    words = read_words(["stage=thinker", flag, "seed=0,1", "--cfg", "job"], config="train", removable=())
    assert words == [flag, "stage=thinker", "seed=0,1", "--cfg", "job"]
