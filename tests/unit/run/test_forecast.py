"""How long all stages take: by hand for a few stages, from the notes of each, and what is said of a slow machine."""

import json
import logging
import os
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from muomni.cli.help import CONF
from muomni.run import forecast
from muomni.run.stage_graph import read_needs

NEEDS = {"a": [], "b": ["a"], "c": [], "d": ["b", "c"]}
STAGES = ["thinker", "vision", "audio", "codec", "talker"]


@pytest.fixture(autouse=True)
def _no_notes(monkeypatch):
    monkeypatch.delenv(forecast.FOLDER, raising=False)
    yield
    forecast.clean_up()


@pytest.mark.parametrize(
    ("left", "jobs", "begun", "seconds"),
    [
        ({"a": 2, "b": 3, "c": 4, "d": 1}, 1, (), 10),
        ({"a": 2, "b": 3, "c": 4, "d": 1}, 2, (), 6),  # a, b next to c, then d
        ({"b": 3, "c": 4, "d": 1}, 2, ("c",), 5),  # a is done, c has begun
        ({"d": 1}, 2, ("d",), 1),
        ({}, 2, (), 0),
    ],
)
def test_stages_wait_for_what_they_need_and_for_a_free_core(left, jobs, begun, seconds):
    assert forecast.wall_clock(left, NEEDS, jobs, begun) == seconds


def test_the_reference_machine_takes_its_own_time_and_a_slower_one_longer():
    start, (step, test) = forecast.START, forecast.REFERENCE["thinker"]
    assert forecast.expected_seconds("thinker", 100, forecast.REFERENCE_GFLOPS) == pytest.approx(
        start + 100 * step + test
    )
    half = forecast.expected_seconds("thinker", 100, forecast.REFERENCE_GFLOPS / 2) - start
    assert half == pytest.approx(2 * (100 * step + test))


def announced(caplog, monkeypatch, *, gflops, budget="demo", **changes):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(forecast, "core_gflops", lambda *, half: gflops)
    budget = OmegaConf.load(CONF / "budget" / f"{budget}.yaml")
    told = {
        "stage": {"name": "omni_sft"}, "size": "nano", "data": {"kind": "world"}, "budget": budget,
        "trainer": {"accelerator": "cpu", "precision": "32-true"},
    }  # fmt: skip
    forecast.announce(OmegaConf.merge(told, changes), STAGES, read_needs(CONF), jobs=2, conf=CONF)
    return [record.message for record in caplog.records]


def test_a_command_says_how_long_it_takes_and_its_stages_go_on_saying_it(caplog, monkeypatch):
    (said,) = announced(caplog, monkeypatch, gflops=100.0)
    assert "100 GFLOP/s a core in float32" in said and all(stage in said for stage in [*STAGES, "omni_sft"])
    folder = Path(os.environ[forecast.FOLDER])
    plan = json.loads((folder / "plan.json").read_text())
    before = forecast.remaining()
    assert before == pytest.approx(forecast.wall_clock(plan["seconds"], plan["needs"], 2))
    for stage in STAGES:
        forecast.note(stage, 0)
    forecast.note("omni_sft", 50.0)
    assert forecast.remaining() == pytest.approx(50.0, abs=1.0)
    later = time.time() + 20.0
    monkeypatch.setattr(time, "time", lambda: later)
    assert forecast.remaining() == pytest.approx(30.0, abs=1.0), "time goes on between two notes"
    forecast.clean_up()
    assert not folder.exists() and forecast.remaining() is None


def test_a_slow_machine_is_told_of_the_quick_budget(caplog, monkeypatch):
    _, advice = announced(caplog, monkeypatch, gflops=forecast.SLOW - 10)
    assert "budget=quick" in advice and OmegaConf.load(CONF / "budget" / "quick.yaml").reaches in advice


@pytest.mark.parametrize("changes", [{"size": "tiny"}, {"data": {"kind": "text"}}, {"stage": {"name": "ocr"}}], ids=str)
def test_nothing_is_said_of_what_was_never_timed(changes, caplog, monkeypatch):
    assert announced(caplog, monkeypatch, gflops=30.0, **changes) == []
    assert forecast.remaining() is None
    forecast.note("thinker", 1.0)


def test_the_rate_of_a_core_is_one_that_a_core_can_have():
    assert 1.0 < forecast.core_gflops(half=False) < 1000.0


def test_the_quick_budget_takes_12_minutes_where_the_demo_takes_most_of_an_hour():
    wall = {}
    for name in ("quick", "demo"):
        budget = OmegaConf.load(CONF / "budget" / f"{name}.yaml")
        plan = forecast._plan([*STAGES, "omni_sft"], read_needs(CONF), budget, 92.0, 2)  # AVX2
        wall[name] = forecast.wall_clock(plan.seconds, plan.needs, plan.jobs)
    assert wall["quick"] < 12 * 60 and wall["quick"] < wall["demo"] / 3
