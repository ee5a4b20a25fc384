"""Sweeps and comparisons as pages: seeds in groups, differences against their spread, one file that loads nothing."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import yaml
from PIL import Image

from muomni.report.__main__ import main
from muomni.report.curves import smooth
from muomni.report.html import Page
from muomni.report.runs import find_runs, read_folder
from muomni.report.seeds import Summary, group_by_seed
from muomni.report.svg import Line, Series, line_chart, parallel_coordinates, ticks
from muomni.report.sweep import importance, read_sweep
from muomni.sweep.study import begin
from muomni.sweep.worker import work


def make_job(folder, *, lr, seed, loss, finished=True, samples=True, words=None):
    """A run folder of stage=thinker, 10 steps of 4 samples, 2 of them a second."""
    (folder / ".hydra").mkdir(parents=True)
    config = {
        "stage": {"name": "thinker", "monitor": "thinker/test/loss"}, "seed": seed, "optim": {"lr": lr},
        "datamodule": {"seed": seed, "batch_size": 4}, "paths": {"output": str(folder)}, "trainer": {"max_steps": 10},
    }  # fmt: skip
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / ".hydra" / "overrides.yaml").write_text(
        yaml.safe_dump(words or [f"optim.lr={lr}", f"seed={seed}", "budget=ci"])
    )
    (folder / "hparams.yaml").write_text(yaml.safe_dump(config))
    lines = [
        "step,thinker/train/loss,thinker/train/samples_per_second,thinker/train/tokens_per_second,thinker/val/loss"
    ]
    lines += [
        f"{step},{loss + 1 / (step + 1)},2,20,{loss + 2 / (step + 1) if step % 2 else ''}" for step in range(1, 11)
    ]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    if not finished:
        return folder
    (folder / "metrics.json").write_text(json.dumps({"thinker/test/loss": loss, "thinker/qa/fact": 50.0 - loss,
                                                     "thinker/qa/fact_low": 40.0, "thinker/qa/fact_high": 60.0}))  # fmt: skip
    machine = {"processor": "Some CPU", "cores": 2, "threads": 1, "gpu": "none"}
    (folder / "run.json").write_text(json.dumps({
        "stage": "thinker", "command": f"python train.py optim.lr={lr}", "started": "2026-11-29T10:00:00", "steps": 10,
        "seconds": {"fit": 20.0, "test": 1.0}, "parameters": 1000, "parameters_trained": 1000, "machine": machine,
    }))  # fmt: skip
    if samples:
        (folder / "samples").mkdir()
        rows = [{"split": "qa", "id": "a", "kind": "x", "question": "is 1 < 2?", "answer": f"by {lr}", "truth": "yes",
                 "image": "a.png", "audio": "a.wav"}]  # fmt: skip
        (folder / "samples" / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        Image.new("RGB", (16, 16)).save(folder / "samples" / "a.png")
        soundfile.write(folder / "samples" / "a.wav", np.zeros(100), 16000)
    return folder


@pytest.fixture
def multirun(tmp_path):
    """Two rates with three seeds each, one of them failed."""
    folder = tmp_path / "runs" / "thinker" / "sweep"
    losses = {0.1: (1.0, 1.2, 1.1), 0.01: (2.0, 2.1, None)}
    number = 0
    for lr, each in losses.items():
        for seed, loss in enumerate(each):
            job = make_job(folder / str(number), lr=lr, seed=seed, loss=loss or 9.0, finished=loss is not None)
            if loss is None:
                (job / "failed.json").write_text(json.dumps({"error": "no memory"}))
            number += 1
    return folder


def test_seeds_are_one_setting_with_mean_spread_and_number(multirun):
    groups = group_by_seed(find_runs([str(multirun)]))
    assert [(group.label, group.seeds) for group in groups] == [("lr=0.1", [0, 1, 2]), ("lr=0.01", [0, 1, 2])]
    first, second = (group.summary("thinker/test/loss") for group in groups)
    assert (round(first.mean, 6), round(first.spread, 6), first.n) == (1.1, 0.2, 3) and second.n == 2
    assert first.differs_from(second) and not first.differs_from(Summary((1.25, 1.26)))
    assert Summary((1.0,)).spread is None and Summary((1.0,)).differs_from(Summary((2.0,))) is None


def test_a_comparison_is_one_file_that_loads_nothing(multirun, tmp_path, capsys):
    main(["compare", str(multirun), f"out={tmp_path / 'out'}"])
    text, markdown = ((tmp_path / "out" / f"compare.{form}").read_text() for form in ("html", "md"))
    assert str(tmp_path / "out" / "compare.html") in capsys.readouterr().err
    assert not re.search(r"""(?:src|href)=["'](?!data:)|https?://(?!www\.w3\.org)|@import|url\(""", text)
    assert text.count("data:image/png") == 1 and text.count("data:audio/wav") == 5 and len(text) < 5_000_000
    assert "1.10 (spread 0.2000, n=3)" in text and "+0.9500 yes" in text and "is 1 &lt; 2?" in text
    assert (
        "| thinker/test/loss | lower | 1.10 (spread 0.2000, n=3) | 2.05 (spread 0.1000, n=2) | +0.9500 yes |"
        in markdown
    )
    assert "| optim.lr | 0.1 | 0.01 |" in markdown and "datamodule.seed" not in markdown and "no memory" in markdown
    for axis in ("steps", "tokens", "hours"):
        assert f'data-choose="{axis}"' in text
    assert "No run logged its FLOPs" in text and 'data-choose="FLOPs"' not in text
    assert (tmp_path / "out" / "charts" / "thinker-val-loss.svg").read_text().startswith("<svg xmlns=")


def test_runs_of_one_seed_are_compared_by_their_intervals(multirun, tmp_path):
    main(["compare", str(multirun / "0"), str(multirun / "3"), f"out={tmp_path}"])
    text = (tmp_path / "compare.md").read_text()
    assert "49 (40 to 60) | 48 (40 to 60) | -1 no |" in text and "+1, one seed each" in text


def test_what_is_no_number_is_shown_and_not_compared(multirun, tmp_path, capsys):
    """NaN of a loss that broke, Infinity of a perplexity: pages of such runs are made, and they win nothing."""
    broken = {"thinker/test/loss": float("nan"), "thinker/qa/fact": float("inf")}
    (multirun / "0" / "metrics.json").write_text(json.dumps(broken))
    table = (multirun / "0" / "metrics.csv").read_text().replace("4,1.2,2,20", "4,nan,0,20")
    assert "nan" in table, "one interval without a loss, in which nothing was trained"
    (multirun / "0" / "metrics.csv").write_text(table)
    main(["compare", str(multirun), f"out={tmp_path / 'c'}"])
    lines = (tmp_path / "c" / "compare.md").read_text().splitlines()
    (row,) = [line for line in lines if line.startswith("| thinker/test/loss |")]
    assert row == "| thinker/test/loss | lower | nan (n=3) | 2.05 (spread 0.1000, n=2) |  |"
    first = read_folder(multirun / "0")
    steps, loss = first.curve("thinker/train/loss", "hours")
    assert np.isfinite(steps).all() and (np.diff(steps) >= 0).all() and not np.isfinite(loss).all()
    assert np.isfinite(smooth(loss)[4:]).all(), "what follows a NaN is drawn"
    main(["sweep", str(multirun)])
    assert read_sweep(multirun).best.name == "2"
    assert "| 0 | complete |  |" in (multirun / "sweep.md").read_text()


def test_a_seed_that_was_trained_twice_is_no_sample_of_two(multirun):
    """The same run again has no spread of seeds, below which every difference would seem large."""
    again = make_job(multirun / "6", lr=0.1, seed=1, loss=1.2)
    groups = group_by_seed(find_runs([str(multirun), str(again)]))
    assert [group.seeds for group in groups] == [[0, 1, 2], [0, 1, 2], [1]]
    assert len({group.label for group in groups}) == 3


def test_axes_follow_from_the_rates_or_are_logged(multirun):
    run = read_folder(multirun / "0")
    steps, values = run.curve("thinker/val/loss", "steps")
    assert run.curve("thinker/val/loss", "tokens") == ([40.0 * step for step in steps], values)
    assert np.allclose(run.curve("thinker/val/loss", "hours")[0], [2 * step / 3600 for step in steps])
    assert run.curve("thinker/val/loss", "FLOPs") is None
    csv = multirun / "0" / "metrics.csv"
    csv.write_text("step,thinker/val/loss,thinker/train/total_flops\n" + "".join(f"{s},1,{s}e9\n" for s in (1, 2)))
    assert read_folder(multirun / "0").curve("thinker/val/loss", "FLOPs")[0] == [1e9, 2e9]


def test_a_multirun_as_a_page(multirun):
    main(["sweep", str(multirun)])
    text, markdown = ((multirun / f"sweep.{form}").read_text() for form in ("html", "md"))
    assert "6 of 6 jobs: 5 complete, 1 failed. Judged by thinker/test/loss, lower is better." in markdown
    assert "Best is job 0: 1 with optim.lr=0.1 seed=0" in markdown
    assert "| optim.lr=0.1 | 1.10 | 0.2000 | 3 | 0, 1, 2 |" in markdown and "no memory" in markdown
    assert text.count('class="job"') == 6 and text.count("<polyline") > 11 and 'class="best"' in text
    found = importance(read_sweep(multirun))
    assert set(found) == {"optim.lr", "seed"}


def test_jobs_without_a_test_are_judged_by_their_last_validation(tmp_path):
    """Data of one's own without data.test: metrics.json is there and empty."""
    for number, loss in enumerate((2.0, 1.0, 3.0)):
        job = make_job(tmp_path / "sweep" / str(number), lr=loss, seed=0, loss=loss, finished=number != 2)
        if number != 2:
            (job / "metrics.json").write_text("{}")
    found = read_sweep(tmp_path / "sweep")
    assert [job.outcome for job in found.jobs] == ["complete", "complete", "running"]
    assert found.metric == "thinker/val/loss" and found.best.name == "1"
    main(["compare", str(tmp_path / "sweep"), f"out={tmp_path}"])
    assert [line.count(" finished ") for line in (tmp_path / "compare.md").read_text().splitlines()[5:10]].count(1) == 2


def test_further_metrics_of_a_multirun_are_columns(multirun):
    main(["sweep", str(multirun), "metrics=qa/fact,thinker/test/loss"])
    markdown = (multirun / "sweep.md").read_text()
    assert "| job | outcome | thinker/test/loss | qa/fact | thinker/test/loss | optim.lr | seed |" in markdown
    assert "| 0 | complete | 1 | 49 (40 to 60) | 1 |" in markdown
    assert "| 5 | failed |  |  |  |" in markdown or "| 5 | failed | - |" in markdown
    with pytest.raises(ValueError, match="metrics=test/cer: no job of .*sweep has it; a metric is SPLIT/NAME"):
        main(["sweep", str(multirun), "metrics=test/cer"])


def test_a_study_as_a_page(tmp_path):
    from tests.unit.sweep.conftest import train

    spec = {
        "name": "a", "stage": "thinker", "words": ["stage=thinker"], "space": {"optim.lr": "tag(log, interval(1e-4, 1.0))"},
        "seeds": [], "monitor": "thinker/val/loss", "mode": "min", "keep": "last", "steps": 4, "trials": 10,
        "storage": "journal", "pruner": "median", "search_seed": 0,
    }  # fmt: skip
    from muomni.sweep.study import Spec

    begin(tmp_path, Spec(**spec))
    work(tmp_path, start=train)
    main(["sweep", str(tmp_path)])
    text, markdown = (tmp_path / "sweep.html").read_text(), (tmp_path / "sweep.md").read_text()
    assert "10 of 10 jobs: " in markdown and "pruned" in markdown and "is worse than the median" in markdown
    assert "importance" in text and text.count('class="job"') == 10 and "charts/curves.svg" in markdown
    assert set(importance(read_sweep(tmp_path))) == {"optim.lr"}
    begin(tmp_path, replace(Spec(**spec), trials=11))
    assert read_sweep(tmp_path).wanted == 11


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["compare", "EMPTY", "JOB"],
            r"EMPTY: holds no run \(no metrics\.csv, metrics\.json or run\.json\); runs are in runs/",
        ),
        (["compare", "NOWHERE"], r"NOWHERE: no such folder"),
        (["compare", "JOB"], r"JOB: a comparison needs two runs or more"),
        (["compare"], r"compare: the folders of two runs or more are needed"),
        (["compare", "JOB", "sort=yes"], r"unknown option 'sort'; available: out"),
        (["sweep", "JOB"], r"JOB: is a run, not a sweep"),
        (["sweep", "EMPTY"], r"EMPTY: holds no sweep"),
        (["sweep"], r"sweep: one folder of a sweep is needed"),
        (["swep"], r"unknown page 'swep'; available: sweep, compare, listen, leaderboard"),
    ],
)
def test_mistakes_are_one_line(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_job(tmp_path / "JOB", lr=0.1, seed=0, loss=1.0)
    (tmp_path / "EMPTY").mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match=message) as mistake:
        main(words)
    assert "\n" not in str(mistake.value)


def test_charts_survive_any_numbers():
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10] and ticks(1, 1000, log=True) == [1, 10, 100, 1000]
    assert line_chart([], x="a", y="b") == line_chart([Series("a", 0, [1], [float("nan")])], x="a", y="b") == ""
    one = line_chart([Series("<a>", 0, [1.0], [2.0])], x="a", y="b")
    assert "<title>&lt;a&gt;</title>" in one and "nan" not in one
    long = line_chart([Series("a", 0, range(100_000), np.linspace(1, 1e6, 100_000).tolist())], x="a", y="b")
    assert len(long) < 10_000 and ">log<" in long
    lines = [Line("a", [1, "x", None], 0.5), Line("b", [1, True, float("inf")], None)]
    drawn = parallel_coordinates(["p", "q", "r"], lines, log=[True, False, False])
    assert drawn.count("<polyline") == 2 and "nan" not in drawn


def test_media_beyond_the_room_are_left_out(tmp_path):
    (tmp_path / "a.wav").write_bytes(bytes(1000))
    page = Page("a", media=1500)
    assert page.embed(tmp_path / "a.wav").startswith("<audio") and "left out" in page.embed(tmp_path / "a.wav")
    page.add("x" * 5_000_000)
    with pytest.raises(ValueError, match=r"the page would have 5\.0 MB"):
        page.html()
