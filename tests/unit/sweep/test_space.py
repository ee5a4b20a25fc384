"""Search spaces in the grammar of Hydra's sweeps, and the commands that name them."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from muomni.cli.help import CONF, choices
from muomni.sweep.__main__ import plan, read_command, validate_every
from muomni.sweep.space import as_words, distribution, read_search, space_of, split_searched
from muomni.sweep.study import begin
from muomni.sweep.training import words_of
from muomni.sweep.trials import next_trial


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("tag(log, interval(1e-3, 1e-1))", FloatDistribution(1e-3, 1e-1, log=True)),
        ("interval(0.1, 1)", FloatDistribution(0.1, 1.0)),
        ("int(interval(2, 64))", IntDistribution(2, 64)),
        ("range(10, 200, 10)", IntDistribution(10, 190, step=10)),
        ("range(0, 4)", IntDistribution(0, 3)),
        ("choice(16, 32)", CategoricalDistribution([16, 32])),
        ("a,b", CategoricalDistribution(["a", "b"])),
        ("true,null", CategoricalDistribution([True, None])),
        ("[1,2],[3]", CategoricalDistribution(["[1,2]", "[3]"])),
    ],
)
def test_hydras_sweeps_become_distributions(text, wanted):
    assert distribution("optim.lr", text) == wanted


@pytest.mark.parametrize(
    "text", ["3", "interval(2, 1)", "range(3, 1)", "interval(a, b)", "tag(log, interval(0.0, 1.0))"]
)
def test_what_is_no_range_of_values_is_refused(text):
    with pytest.raises(ValueError, match=r"^optim\.lr="):
        distribution("optim.lr", text)


def test_words_with_several_values_are_searched():
    words = ["stage=thinker", "optim.lr=1e-3,1e-2", "data.train='a,b'", "hydra.x=1,2"]
    assert split_searched(words) == ({"optim.lr": "1e-3,1e-2"}, ["stage=thinker", "data.train='a,b'", "hydra.x=1,2"])
    assert as_words({"a.b": 0.5, "c": None, "d": True, "e": "x"}) == ["a.b=0.5", "c=null", "d=true", "e=x"]


@pytest.mark.parametrize("name", choices("search"))
def test_every_search_space_is_of_options_that_there_are(name):
    options = read_command([f"search={name}"])[0]
    spec, _, _ = plan(options, [f"stage={name}", "budget=ci"])
    assert spec.space == read_search(name) and spec.name == f"{name}-{name}" and space_of(spec.space)
    assert (CONF / "search" / f"{name}.yaml").read_text().startswith("# Search space of ")


def test_the_loggers_runs_are_named_by_the_sweep_and_the_trial(tmp_path):
    spec, _, _ = plan(read_command([])[0], ["stage=thinker", "logger=[wandb]", "optim.lr=1e-3,1e-2"])
    assert "logger.wandb.group=thinker-own" in spec.words and "logger.wandb.name=thinker-own" in spec.words
    claimed = next_trial(begin(tmp_path, spec), spec, tmp_path)
    words = words_of(claimed, spec, tmp_path, 0)
    assert "logger.wandb.group=thinker-own" in words and "logger.wandb.name=thinker-own-0" in words


def test_both_spellings_of_a_search_and_its_own_options():
    for word in ("search=thinker", "search/thinker"):
        options, words, slurm = read_command(
            [word, "stage=thinker", "trials=40", "launcher=submitit_slurm", "slurm.partition=gpu"]
        )
        assert (options["search"], options["trials"], words, slurm) == (
            "thinker",
            40,
            ["stage=thinker"],
            {"partition": "gpu"},
        )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stage=thinker", "optim.lrr=1,2"], r"unknown option 'lrr' in optim; available: "),
        (["stage=thinker", "sarch=thinker"], r"unknown option 'sarch' in the top level"),
        (["stage=thinker", "search=nothing"], r"search=nothing: no such search space; available: .*thinker"),
        (["stage=ocr"], r"stage=ocr has no search space: give search="),
        (["stage=thinker", "storage=redis"], r"storage=redis: available are journal, sqlite"),
        (["stage=thinker", "trials=0"], r"trials=0: at least 1"),
        (["stage=thinker", "trials=x"], r"trials=x: a whole number is needed"),
        (["stage=thinker", "seeds=1,1"], r"seeds=1,1: whole numbers, each once"),
        (["stage=thinker", "seeds=1,2", "seed=3"], r"seeds=1,2 and seed=: give one of them"),
        (["stage=thinker", "task=test"], r"task=test: a sweep decides this itself"),
        (
            ["stage=thinker", "monitor=audio/val/cer"],
            r"monitor=audio/val/cer: a metric of the validation split, thinker/val/",
        ),
        (["stage=thinker", "slurm.partition=gpu"], r"slurm.partition=: launcher=submitit_slurm uses it"),
        (["stage=thinker", "name=a/b"], r"name=a/b: it is the name of a folder"),
    ],
)
def test_mistakes_are_one_line(words, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as mistake:
        plan(*read_command(words)[:2])
    assert "\n" not in str(mistake.value)


def test_the_last_validation_is_at_the_last_step_where_that_is_possible():
    assert validate_every([], 3900, 10) == ["trainer.val_check_interval=390"]
    assert validate_every([], 26, 5) == ["trainer.val_check_interval=6"]
    assert validate_every([], 28, 5) == ["trainer.val_check_interval=4"]
    assert validate_every([], 2, 10) == ["trainer.val_check_interval=1"]
    assert validate_every(["trainer.val_check_interval=7"], 28, 5) == validate_every([], None, 5) == []
