"""Goals over trainings of several seeds: mean, worst, spread; which seeds reach them; what is missing, what differs."""

import json

import pytest

from muomni.report.__main__ import main
from muomni.report.goals import Goal
from muomni.report.page import write_report
from muomni.report.seeds_page import Measured, measure
from muomni.report.trainings import Training, find_trainings, roots_of

from .conftest import make_run

#: Loss minus floor (goal of the demo: at most .06) and stories (at least 95) of three seeds.
THINKERS = {0: (0.05, 96.0), 1: (0.04, 90.0), 2: (0.06, 97.0)}


def thinker(loss, stories):
    return {"test/loss_minus_floor": loss, "qa/story": stories}


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Thinkers of three seeds: 0 in the root itself, 1 and 2 in roots of their own."""
    monkeypatch.chdir(tmp_path)
    for seed, measured in THINKERS.items():
        root = tmp_path if seed == 0 else tmp_path / "seeds" / f"demo-{seed}"
        make_run(root / "runs", "thinker", "1", thinker(*measured), seed=seed)
    return tmp_path


def cells(page, what):
    """The cells of the row about a goal in each table."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if f"| {what} |" in line
    ]


def goal_of(values, *, lower, target, seeds=("0", "1", "2")):
    goal = Goal("s", "w", ("s/t/a",), take="itself", lower=lower, targets={"demo": target})
    return Measured(goal, values, seeds, "demo")


def test_mean_worst_best_and_spread_are_those_by_hand(trained):
    main(["seeds=0,1,2"])
    page = (trained / "reports" / "demo" / "seeds.md").read_text()
    loss, by_seed = cells(page, "loss minus entropy floor, nats a token")
    assert loss[2:] == ["<= 0.0600", "0.0500", "0.0600 (seed 2)", "0.0400 (seed 1)", "0.0200", "3", "every seed"]
    assert by_seed[2:] == ["0.0500", "0.0400", "0.0600"]
    stories, by_seed = cells(page, "stories, %")
    verdict = "**2 of 3**, missed by seed 1, worst misses by 5"
    assert stories[2:] == [">= 95", "94.33", "90 (seed 1)", "97 (seed 2)", "7", "3", verdict]
    assert by_seed[2:] == ["96", "**90**", "97"], "what is missed is in bold"
    assert cells(page, "fact questions, %")[0][-1] == "**not measured**"
    assert "Reached by every seed: thinker: loss minus entropy floor, nats a token." in page
    document = json.loads((trained / "reports" / "demo" / "seeds.json").read_text())
    (found,) = (each for each in document["goals"] if each["what"] == "stories, %")
    assert (found["worst"], found["spread"], found["reached_by"]) == (90.0, 7.0, ["0", "2"])
    assert found["mean"] == pytest.approx(283 / 3) and document["seeds"] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("values", "lower", "target", "ends", "verdict"),
    [
        ({"0": 1.0, "1": 3.0, "2": 2.0}, False, 1.0, ("0", "1"), "every seed"),
        ({"0": 1.0, "1": 3.0, "2": 2.0}, True, 3.0, ("1", "0"), "every seed"),
        ({"0": 1.0, "1": 3.0, "2": 2.0}, True, 0.5, ("1", "0"), "**no seed**, worst misses by 2.50"),
        (
            {"0": 1.0, "1": 3.0, "2": 2.0},
            False,
            2.5,
            ("0", "1"),
            "**1 of 3**, missed by seeds 0, 2, worst misses by 1.50",
        ),
        ({"0": 1.0, "2": 2.0}, False, 1.0, ("0", "2"), "2 of 3; not measured in seed 1"),
        ({"0": 1.0}, False, 5.0, ("0", "0"), "**no seed**, worst misses by 4; not measured in seeds 1, 2"),
    ],
)
def test_which_seeds_reach_a_goal(values, lower, target, ends, verdict):
    found = goal_of(values, lower=lower, target=target)
    assert (found.ends, found.verdict) == (ends, verdict)


def test_the_goals_are_counted_by_those_that_every_seed_and_no_seed_reaches(trained):
    for seed in (3, 4):
        make_run(trained / "seeds" / str(seed) / "runs", "thinker", "1", thinker(0.5, 97.0), seed=seed)
    main(["seeds=4,3", f"out={trained}/out"])
    page = (trained / "out" / "seeds.md").read_text()
    assert "reached by every seed, 1 by no seed." in page
    assert "Reached by no seed: thinker: loss minus entropy floor, nats a token." in page
    assert cells(page, "stories, %")[0][4:7] == ["97", "97", "0"], "no seed is the worst of equal ones"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("seeds=0,1,7,8", r"^seeds 7, 8: no finished run .* \(there are seeds 0, 1, 2\); .* seed=7 paths.root=seeds/demo-7 "),
        ("seeds=0,1 budget=quick", r"^seeds 0, 1: no finished run with budget=quick on data=world under \. \(there are none\)"),
        ("seeds=0,1 root=nowhere", "^root=nowhere: no such folder; give a folder that was paths.root"),
        ("seeds=0,1 root=.,empty", "^root=empty: holds no runs/STAGE/TIME, nor does a folder of its seeds/"),
        ("seeds=0,1 budget=ci", r"^budget=ci has no goals \(muomni/report/goals.yaml has those of quick, demo, full\)$"),
        ("seeds=0", "^seeds=0: two different seeds or more are needed"),
        ("seeds=1,01", "^seeds=1,01: two different seeds or more are needed"),
        ("seeds=0,x", "^seeds=0,x: 'x' is no seed; whole numbers"),
        ("seeds=", "^seeds=: '' is no seed"),
        ("seeds=0,1 bugdet=demo", "^unknown option 'bugdet'"),
    ],
)  # fmt: skip
def test_what_is_missing_is_one_line(trained, words, message):
    (trained / "empty").mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        main(words.split())
    assert "\n" not in str(raised.value)
    assert not (trained / "reports" / "demo" / "seeds.md").exists()


def test_trainings_that_differ_by_more_than_their_seed_are_refused(trained):
    options = {"optim": {"lr": 0.5}, "trainer": {"devices": 3}}
    make_run(trained / "seeds" / "3" / "runs", "thinker", "1", {}, seed=3, options=options)
    with pytest.raises(
        ValueError, match=r"seeds/3/runs/thinker/1: trained otherwise than .* \(optim.*lr=0.5.*\): seeds are of one"
    ):
        main(["seeds=0,3"])


def test_a_stage_that_lacks_a_run_of_a_seed_is_said(trained, capsys):
    for seed in (1, 2):
        make_run(trained / "seeds" / f"demo-{seed}" / "runs", "audio", "1", {"test/cer": 1.0}, seed=seed)
    main(["seeds=0,1,2", "out=out"])
    said = capsys.readouterr().err
    assert "seed 0: no finished run of vision, audio, codec, talker, omni_sft in runs" in said.replace("./", "")
    page = (trained / "out" / "seeds.md").read_text()
    assert cells(page, "CER, seen voices, %")[0][-1] == "2 of 3; not measured in seed 0"
    assert "vocoder" not in page, "an optional stage that was not trained"


def test_a_seed_is_of_one_root_alone_the_one_with_the_most_stages(tmp_path):
    make_run(tmp_path / "runs", "omni_sft", "new", {}, seed=1, age=0)  # made upon the stages of another seed
    make_run(tmp_path / "runs", "thinker", "1", {}, seed=0)
    for stage in ("thinker", "omni_sft"):
        make_run(tmp_path / "seeds" / "a" / "runs", stage, "old", {}, seed=1, age=100)
    (tmp_path / "seeds" / "notes").mkdir()
    assert roots_of(tmp_path) == [tmp_path, tmp_path / "seeds" / "a"]
    found = find_trainings(roots_of(tmp_path), budget="demo", data="world")
    assert list(found) == ["0", "1"] and found["1"].root.name == "a"
    assert [run.folder.name for run in found["1"].runs.values()] == ["old", "old"]


def test_of_roots_with_the_same_stages_the_newest(tmp_path):
    for name, age in (("a", 50), ("b", 10), ("c", 30)):
        make_run(tmp_path / "seeds" / name / "runs", "thinker", "1", {}, seed=10, age=age)
    assert find_trainings(roots_of(tmp_path), budget="demo", data="world")["10"].root.name == "b"


def test_the_jobs_of_a_sweep_over_seeds_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        make_run(tmp_path / "runs", "thinker", f"2026/{seed}", thinker(0.05, 96.0 + seed), seed=seed)
    main(["seeds=0,1"])
    assert cells((tmp_path / "reports" / "demo" / "seeds.md").read_text(), "stories, %")[1][2:] == ["96", "97"]


def test_the_report_card_shows_the_worst_of_the_seeds_of_its_setting(trained):
    make_run(trained / "seeds" / "other" / "runs", "thinker", "1", thinker(9.0, 1.0), seed=5, options={"size": "tiny"})
    page = trained / "out" / "report.md"
    write_report(runs=trained / "runs", out=trained / "out", page=page, budget="demo", data="world", command="c")
    stories = cells(page.read_text(), "stories, %")[0]
    assert stories[2:5] == ["96", "90", ">= 95"] and stories[-1] == "reached, worst missed by 5"
    assert "| worst of 3 seeds |" in page.read_text()
    loss = cells(page.read_text(), "loss minus entropy floor, nats a token")[0]
    assert loss[2:4] == ["0.0500", "0.0600"] and loss[-1] == "reached"
    row = next(line for line in (trained / "out" / "index.html").read_text().split("<tr>") if "stories, %" in line)
    assert ">90<" in row and ">97<" in row and ">1<" not in row


def test_a_single_training_has_no_worst(tmp_path):
    make_run(tmp_path / "runs", "thinker", "1", thinker(0.05, 96.0))
    page = tmp_path / "out" / "report.md"
    write_report(runs=tmp_path / "runs", out=tmp_path / "out", page=page, budget="demo", data="world", command="c")
    assert "worst of" not in page.read_text()


def test_goals_of_another_budget_are_left_out():
    goals = [Goal("thinker", "w", ("thinker/t/a",), take="itself", lower=False, targets={"full": 1.0})]
    assert measure([Training("0", None, {})], goals, "demo") == []
