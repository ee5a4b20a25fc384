"""Which runs a comparison of optimizers consists of, and what it says of them."""

import json

import pytest

from benchmarks.quality.optimizers import OWN, Run, Stage, command, compare, kept, summary

STAGE = Stage(lr=4e-3, weight_decay=0.1, step_seconds={"adamw": 0.04, "muon": 0.05, "schedule_free": 0.04})
OPTIONS = OWN | {"optimizers": ("adamw", "muon", "schedule_free"), "seconds": 2.0, "schedules": ("cosine",)}
#: Loss of muon's best options; worse by the distance from rate 2 and decay 3, and for other optimizers.
WORSE = {"muon": 0.0, "adamw": 1.0, "schedule_free": 0.5}


def fake(runs):
    def train(run):
        runs.append(run)
        loss = 1 + abs(run.rate - 2) + abs(run.decay - 3) / 10 + WORSE[run.optimizer] + 0.01 * run.seed
        if run.schedule == "cosine":
            loss -= 0.1
        return {"val_loss": loss, "cer": None, "cpu_s": 2.5}

    return train


def test_rates_are_tuned_with_the_first_seed_and_the_best_is_trained_with_all():
    runs = []
    rows = compare("thinker", STAGE, OPTIONS, fake(runs))
    assert [(row["optimizer"], row["schedule"]) for row in rows] == [
        ("muon+decay", "cosine"), ("muon+decay", "wsd"), ("muon", "wsd"), ("schedule_free", "constant"), ("adamw", "wsd")
    ]  # fmt: skip
    assert {run.rate for run in runs if run.seed} == {2.0}
    best = rows[1]
    assert (best["lr"], best["weight_decay"], best["steps"], best["seeds"]) == pytest.approx((8e-3, 0.3, 40, 3))
    assert (best["val_loss"], best["spread"]) == pytest.approx((1.01, 0.01))
    assert len(set(runs)) == 3 * 3 + 3 * 2 + 2 + 2 + 3, "rates, other seeds of three, decays, their seeds, a schedule"


def test_a_run_that_fails_is_no_best_and_its_seed_is_not_counted():
    def train(run):
        failed = run.rate == 2 or run.seed == 1
        return {"val_loss": None if failed else run.rate, "cer": None, "cpu_s": None if failed else 1.0}

    rows = compare("thinker", STAGE, OPTIONS | {"optimizers": ("adamw",)}, train)
    assert [(row["lr"], row["seeds"]) for row in rows] == [(2e-3, 2)], "and no schedule for a winner that fails"
    with pytest.raises(ValueError, match="all of thinker-adamw-wsd-lr2-wd1-seed0 failed"):
        compare("thinker", STAGE, OPTIONS | {"optimizers": ("adamw",), "rates": ("2",)}, train)


def test_a_finished_run_is_not_done_again(tmp_path):
    runs, run = [], Run("thinker", "muon", "wsd", 0.5, 1.0, 0)
    first = kept(run, fake(runs), tmp_path)
    assert first == {k: v for k, v in kept(run, fake(runs), tmp_path).items() if k in first} and len(runs) == 1
    (file,) = (tmp_path / "results").iterdir()
    assert json.loads(file.read_text())["rate"] == 0.5


def test_the_command_has_the_steps_that_fit_and_the_factors_of_the_stages_own_numbers(tmp_path):
    run = Run("audio", "schedule_free", "constant", 0.5, 3.0, 2)
    words = command(run, STAGE, OPTIONS | {"out": str(tmp_path)}, ["data.preset=ci"])
    assert {"optim.lr=0.002", "module.training.weight_decay=0.3", "trainer.max_steps=50", "seed=2"} <= set(words)
    assert {"optim=schedule_free", "schedule=constant", "monitor=audio/val/cer", "data.preset=ci"} <= set(words)


def test_one_seed_has_no_spread():
    run = Run("thinker", "adamw", "wsd", 2.0, 3.0, 0)
    assert summary("adamw", run, STAGE, OPTIONS | {"seeds": ("0",)}, fake([]))["spread"] is None
