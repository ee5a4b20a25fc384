"""The report card says what was measured, what was not, and hides nothing."""

import dataclasses
import json
import re

import pytest
from PIL import Image

from muomni.report.__main__ import main
from muomni.report.collect import OPTIONAL, STAGES, newest_run
from muomni.report.curves import draw_curves, smooth
from muomni.report.goals import COLUMNS, Goal, read_goals
from muomni.report.page import choose, write_report
from muomni.report.run_files import read_curves
from muomni.report.tables import cell, goals_table, metrics_table, minutes_of_training, number, quoted, worst_of

from .conftest import make_run


def goal(**how):
    options = {
        "stage": "s",
        "what": "w",
        "metrics": ("s/t/a",),
        "take": "itself",
        "lower": False,
        "targets": {"demo": 90.0},
    }
    return Goal(**(options | how))


@pytest.mark.parametrize(
    ("take", "lower", "expected"),
    [
        ("itself", False, 5.0),
        ("worst", False, 2.0),
        ("worst", True, 5.0),
        ("sum", True, 7.0),
        ("difference", True, 3.0),
        ("ratio", False, 250.0),
    ],
)
def test_what_a_goal_is_about(take, lower, expected):
    made = goal(metrics=("a", "b"), take=take, lower=lower)
    assert made.value({"a": 5.0, "b": 2.0}) == expected
    assert made.value({"a": 5.0}) is None


def test_how_much_is_missing():
    assert goal().shortfall(87.5, "demo") == 2.5
    assert goal().shortfall(90.0, "demo") == 0
    assert goal(lower=True, targets={"full": 3.0}).shortfall(4.5, "full") == 1.5
    assert goal(lower=True, targets={"full": 3.0}).shortfall(-1.0, "full") == 0


def test_the_goals_are_those_of_the_stages_and_get_no_easier():
    goals = read_goals()
    assert {made.stage for made in goals} == set(STAGES)
    for made in goals:
        assert all(name.split("/")[0] == made.stage and name.count("/") == 2 for name in made.metrics), made
        assert len(made.metrics) == {"itself": 1}.get(made.take, 2), made
        given = [made.targets[column] for column in COLUMNS if column in made.targets]
        assert given == sorted(given, reverse=made.lower), made


def test_a_goal_that_makes_no_sense_is_named(tmp_path):
    path = tmp_path / "goals.yaml"
    path.write_text("- {stage: s, what: speed, metrics: [a], better: faster, demo: 1}")
    with pytest.raises(ValueError, match="goal 'speed'"):
        read_goals(path)


def test_what_is_no_number_misses_every_goal():
    for lower in (True, False):
        goal = Goal("thinker", "x", ("m",), "itself", lower, {"demo": 1.0})
        assert goal.shortfall(float("nan"), "demo") == float("inf")
        for values in ((1.0, float("nan")), (float("nan"), 1.0)):
            worst, count = worst_of(goal, [{"m": value} for value in values])
            assert worst != worst and count == 2


def test_reached_missed_unmeasured_and_unasked_are_told_apart():
    goals = [
        goal(what="one"), goal(what="two", metrics=("s/t/b",)), goal(what="three", metrics=("s/t/c",)),
        goal(what="four", targets={"full": 1.0}),
    ]  # fmt: skip
    text, reached, asked = goals_table(goals, {"s/t/a": 91.0, "s/t/b": 80.5}, "demo", seeds={})
    verdicts = {line.split(" | ")[1]: line.split(" | ")[-1].rstrip(" |") for line in text.splitlines()[2:]}
    assert verdicts == {"one": "reached", "two": "**missed by 9.50**", "three": "**not measured**", "four": "no goal"}
    assert (reached, asked) == (1, 3)


def test_comparisons_stand_beside_their_metric():
    iid = {"qa": 90.0, "qa_low": 85.0, "qa_high": 94.5, "qa_blind": 30.0, "qa_majority": 25.0}
    metrics = {f"s/iid/{name}": value for name, value in iid.items()}
    metrics |= {"s/comp/qa": 50.0, "s/comp/cer_shuffled": 80.0, "t/iid/qa": 1.0}
    lines = metrics_table(metrics, "s").splitlines()
    assert lines[0] == "| split | metric | value | 95 % | majority | blind |"
    assert set(lines[2:]) == {
        "| iid | qa | 90 | 85 to 94.50 | 25 | 30 |",
        "| comp | qa | 50 |  |  |  |",
        "| comp | cer_shuffled | 80 |  |  |  |",
    }


def test_both_judges_stand_one_below_the_other_with_interval_and_spread():
    own = {"cer": 5.0, "cer_low": 4.0, "cer_high": 6.5, "cer_mean": 5.5, "cer_median": 2.0, "cer_capped": 5.25}
    both = {f"t/test/{judge}{name}": value for judge in ("", "whisper_") for name, value in own.items()}
    lines = metrics_table(both, "t").splitlines()
    assert lines[0] == "| split | metric | value | 95 % | mean | median | capped |"
    assert lines[2:] == [f"| test | {name} | 5 | 4 to 6.50 | 5.50 | 2 | 5.25 |" for name in ("cer", "whisper_cer")]


def test_cells_cannot_break_the_table():
    assert cell("a|b\nc") == "a\\|b c"
    assert [number(v) for v in (3.0, 0.01234, 12.345, 1234567)] == ["3", "0.0123", "12.35", "1,234,567"]


def test_what_a_model_wrote_is_no_markup():
    assert quoted("<b>_x_ [y](z) `") == "\\<b\\>\\_x\\_ \\[y\\](z) \\`"


def test_smoothing_is_the_mean_of_what_came_before():
    assert smooth([1.0, 3.0, 5.0, 7.0], share=0.5).tolist() == [1.0, 2.0, 4.0, 6.0]
    assert smooth([4.0, 2.0], share=0.05).tolist() == [4.0, 2.0]


def test_the_newest_run_that_was_trained_so(tmp_path):
    def name(budget="demo"):
        run = newest_run(tmp_path, "audio", budget=budget, data="world")
        return None if run is None else run.folder.name

    make_run(tmp_path, "audio", "old", {}, age=50)
    make_run(tmp_path, "audio", "new", {}, age=40)
    make_run(tmp_path, "audio", "test-only", {}, age=30, task="test")
    make_run(tmp_path, "audio", "an4", {}, age=20, data="speech")
    make_run(tmp_path, "audio", "long", {}, age=10, budget="full")
    (tmp_path / "audio" / "running").mkdir()
    assert (name(), name("full"), name("ci")) == ("new", "long", None)
    make_run(tmp_path, "audio", "sweep/3", {}, age=1)
    assert name() == "3"
    make_run(tmp_path, "audio", "ablation", {}, age=-1, export="${paths.checkpoints}/audio-audio_downsample_8")
    assert name() == "3"
    make_run(tmp_path, "audio", "gqa/1", {}, age=-2, tag="gqa")
    assert name() == "3"
    make_run(tmp_path, "audio", "again", {}, age=-2, export="${paths.checkpoints}/audio")
    assert name() == "again"


def test_curves_are_read_by_column(runs):
    curves = read_curves(runs / "thinker" / "1" / "metrics.csv")
    assert curves["thinker/val/loss"][0] == [80, 180, 280, 380]
    assert len(curves["thinker/train/loss"][1]) == 20
    assert read_curves(runs / "none.csv") == {}


def test_curves_are_drawn(runs, tmp_path):
    run = newest_run(runs, "thinker", budget="demo", data="world")
    assert draw_curves(run, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 5000
    run.curves.clear()
    assert not draw_curves(run, tmp_path / "y.png")


def test_time_is_counted_once_where_stages_ran_side_by_side(runs):
    def run(start, seconds):
        journal = {"started": f"2026-01-01T{start}", "seconds": {"fit": seconds - 30.0, "test": 30.0}}
        return dataclasses.replace(newest_run(runs, "thinker", budget="demo", data="world"), journal=journal)

    spans = [run("10:00:00", 120), run("10:01:00", 300), run("10:02:00", 60), run("11:00:00", 60)]
    assert minutes_of_training(spans) == 7.0
    assert minutes_of_training([*spans, dataclasses.replace(spans[0], journal={})]) is None


def test_every_split_gets_its_share_of_samples():
    rows = [{"split": s, "n": n} for s in ("a", "b") for n in range(9)] + [{"split": "a", "kind": "spoken"}]
    chosen = choose(rows, versions=False, limit=4)
    assert [(row["split"], row["n"]) for row in chosen] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert choose(rows, versions=True, limit=4) == rows[-1:]


def test_the_report_names_what_is_missing_and_links_to_files_that_exist(runs, tmp_path):
    out, page = tmp_path / "reports" / "demo", tmp_path / "docs" / "results.md"
    result = write_report(runs=runs, out=out, page=page, budget="demo", data="world", command="make demo")
    text = page.read_text()
    assert result["missing"] == ["vision", "audio", "codec"]
    assert "**Missing: vision, audio, codec**" in text
    assert "| thinker | held-out arithmetic, % | 70 | >= 80 | >= 98 | **missed by 10** |" in text
    assert "| audio | CER, seen voices, % |  | <= 3 | <= 1 | **not measured** |" in text
    assert "| test_iid | image_count | 96 | 33.30 | 40 |" in text
    assert 'heard "heard \\| spoken", CER 12.50 %, WER 50 %' in text
    assert "Some CPU, 2 cores" in text
    assert "Training and testing: 2.0 minutes" in text, "three runs of two minutes at the same time"
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) == 3 + 6 + 3 + 1
    assert all((page.parent / link).is_file() for link in links)
    assert json.loads((out / "metrics.json").read_text())["talker/test/cer"] == 13.0
    with Image.open(out / "samples" / "omni_sft-0.png") as shown:
        assert shown.size == (128, 128), "64 pixels, enlarged"
        assert shown.getpixel((127, 127)) == (200, 30, 30)


def test_an_old_report_leaves_no_media_behind_and_nothing_else_goes(runs, tmp_path):
    out = tmp_path / "out"
    (out / "samples").mkdir(parents=True)
    (out / "samples" / "old.png").touch()
    (out / "vision.png").touch()
    (out / "mine.txt").touch()
    write_report(runs=runs, out=out, page=out / "report.md", budget="demo", data="world", command="x")
    assert not (out / "samples" / "old.png").exists()
    assert not (out / "vision.png").exists()
    assert (out / "mine.txt").exists()


def test_the_command_line(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["budget=demo", f"root={runs.parent}"])
    asked = sum("demo" in made.targets and made.stage not in OPTIONAL for made in read_goals())
    assert f"report.md: 5 of {asked} goals reached" in capsys.readouterr().err
    assert str(tmp_path) not in (tmp_path / "reports" / "demo" / "report.md").read_text()
    with pytest.raises(FileNotFoundError, match="no finished run with budget=full"):
        main(["budget=full", f"root={runs.parent}"])
    with pytest.raises(ValueError, match="available: budget, out, root, page, data"):
        main(["budgte=full"])
