"""The table before the first step, the hours after the first ones, and the profile."""

import gzip
import json
import logging

import pytest
import torch

from callbacks.estimate import Estimate, as_table, overview, readable
from callbacks.profile import Profile
from muomni.nn.flops import product
from muomni.run import dry_run
from muomni.run.time_spans import duration


def test_numbers_are_readable():
    assert [readable(number, "FLOP") for number in (12, 1234, 1.5e9, 2e15)] == [
        "12 FLOP", "1.23 kFLOP", "1.5 GFLOP", "2 PFLOP"
    ]  # fmt: skip
    assert readable(1234567, "") == "1.23 M"
    assert [duration(seconds) for seconds in (12, 600, 7200)] == ["12 s", "10 min", "2.0 h"]


def test_the_table_stands_before_the_first_step_and_the_estimate_after_a_few(toy, caplog):
    caplog.set_level(logging.INFO)
    stage, data, trainer = toy(Estimate(steps=4, stop=False), max_steps=6, max_epochs=-1)
    stage.step_cost = lambda batch: product(2, 4, 1)
    trainer.fit(stage, datamodule=data)
    table, estimate = [record.message for record in caplog.records if "stage=toy" in record.message]
    assert "48 FLOP" in table
    assert "memory expected" in table
    assert "for 2 steps" in estimate


def test_a_dry_run_ends_after_its_steps(toy, caplog):
    caplog.set_level(logging.INFO)
    stage, data, trainer = toy(Estimate(steps=3, stop=True), max_steps=1000, max_epochs=-1)
    trainer.fit(stage, datamodule=data)
    assert trainer.global_step == 3
    assert any("for 1000 steps" in record.message for record in caplog.records)


def test_memory_is_of_weights_gradients_and_the_optimizer(toy):
    stage, data, trainer = toy(max_steps=1, max_epochs=-1)
    trainer.fit(stage, datamodule=data)
    stage.step_cost = lambda batch: None
    rows = overview(stage, trainer, next(iter(data.loader())))
    assert (rows["parameters"], rows["trained"]) == ("5", "5")
    assert rows["memory expected"].startswith("0 MiB: weights 0 + gradients 0 + optimizer 0")
    assert "stage=toy" in as_table("stage=toy", rows)


def test_new_files_of_a_dry_run_stay_out_of_the_caches(tmp_path):
    cache = tmp_path / "mels"
    (cache / "a").mkdir(parents=True)
    seen = dry_run.overlay(cache, tmp_path / "over")
    dry_run.overlay(cache, tmp_path / "over")
    (seen / "new").mkdir()
    assert (seen / "a").is_dir()
    assert [path.name for path in cache.iterdir()] == ["a"]


def test_a_profile_is_a_trace_and_ten_operations(toy, tmp_path):
    stage, data, trainer = toy(Profile(warm_up=2, steps=3), max_steps=6, max_epochs=-1)
    trainer.fit(stage, datamodule=data)
    with gzip.open(tmp_path / "profile" / "trace.json.gz") as file:
        assert json.load(file)["traceEvents"]
    lines = (tmp_path / "profile" / "operations.txt").read_text().splitlines()
    assert 5 <= len(lines) <= 10 + 12, "with its head"
    assert torch.is_grad_enabled()


def test_too_few_steps_for_a_profile_are_refused(toy):
    stage, data, trainer = toy(Profile(warm_up=4, steps=6), max_steps=6, max_epochs=-1)
    with pytest.raises(ValueError, match="max_steps=6 is less than"):
        trainer.fit(stage, datamodule=data)
