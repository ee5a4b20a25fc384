"""Whatever a run folder holds: a page, or one line that names the file and what to do."""

import json
import shutil

import pytest

from muomni.report.__main__ import main
from tests.unit.report.test_comparison import make_job


def written(name, text):
    """Replaces a file of the run; bytes as they are."""

    def damage(run):
        path = run / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return damage


def without_configuration(run):
    shutil.rmtree(run / ".hydra")
    (run / "hparams.yaml").unlink()


def of_another_stage(run):
    for name in (".hydra/config.yaml", "hparams.yaml", "metrics.csv", "metrics.json"):
        (run / name).write_text((run / name).read_text().replace("thinker", "vision"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_configuration, r"run: a run without its configuration \(\.hydra/config\.yaml, hparams\.yaml\)"),
        (of_another_stage, r"these runs \(stage=thinker, vision\) have no metric in common: compare runs of one stage"),
        (written("hparams.yaml", "a: [1"), r"hparams\.yaml: not YAML: "),
        (written("hparams.yaml", "- a\n- b\n"), r"hparams\.yaml: not a YAML mapping"),
        (written("hparams.yaml", "stage: thinker\n"), r"hparams\.yaml: stage is 'thinker', where options belong"),
        (written(".hydra/config.yaml", b"\xff\xfe\x00"), r"config\.yaml: not (text|YAML)"),
        (written("metrics.json", '{"thinker/test/loss": 1.'), r"metrics\.json: not JSON: "),
        (written("metrics.json", "[1, 2]"), r"metrics\.json: not a JSON object"),
        (written("metrics.json", '{"thinker/test/loss": "low"}'), r"json: thinker/test/loss is 'low', not a number"),
        (written("metrics.json", '{"thinker/test/loss": null}'), r"json: thinker/test/loss is None, not a number"),
        (written("metrics.json", b'{"\xe9": 1}'), r"metrics\.json: not text"),
        (written("metrics.csv", "step,thinker/val/loss\n1,2.0\n2,1.e-\n"), r"csv:3: thinker/val/loss is '1\.e-', not a"),
        (written("metrics.csv", "step,thinker/val/loss\none,2.0\n"), r"csv:2: step is 'one', not a number: remove the"),
        (written("metrics.csv", "step,a\n1,2.0,3.0\n"), r"csv:2: more cells than columns: remove the line"),
        (written("metrics.csv", b"step,a\n1,\xff\n"), r"metrics\.csv: not text"),
        (written("samples/samples.jsonl", '{"id": "a"}\n{"id": '), r"samples\.jsonl:2: not JSON"),
        (written("samples/samples.jsonl", "3\n"), r"samples\.jsonl:1: not a JSON object"),
        (written("run.json", '{"seconds": null}'), r"run\.json: seconds is None, where options belong"),
        (written("run.json", ""), r"run\.json: not JSON"),
        (written("failed.json", "no memory"), r"failed\.json: not JSON"),
    ],
)  # fmt: skip
def test_a_damaged_run_is_one_line(damage, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [make_job(tmp_path / name, lr=lr, seed=0, loss=1.0) for name, lr in (("good", 0.1), ("run", 0.2))]
    damage(runs[1])
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        main(["compare", *map(str, runs)])
    assert not (tmp_path / "reports" / "compare" / "compare.html").exists()


@pytest.mark.parametrize(
    "damage",
    [
        written("metrics.csv", "step,thinker/val/loss\n1,2.0\n2,1.\n3,0."),
        written("metrics.csv", "step,thinker/val/loss\n1,2.0\n2"),
        written("metrics.csv", ""),
        written("metrics.csv", "step,thin"),
        written("samples/samples.jsonl", ""),
        written("samples/samples.jsonl", '{"id": "b", "split": "qa", "image": "gone.png", "audio": "gone.wav"}\n'),
        written("run.json", "{}"),
        written("failed.json", "{}"),
    ],
)
def test_what_a_running_or_killed_training_left_is_shown(damage, tmp_path):
    """A half-written last line too."""
    runs = [make_job(tmp_path / name, lr=lr, seed=0, loss=1.0) for name, lr in (("good", 0.1), ("run", 0.2))]
    damage(runs[1])
    main(["compare", *map(str, runs), f"out={tmp_path}/out"])
    assert "0.2" in (tmp_path / "out" / "compare.md").read_text()


@pytest.mark.parametrize("page", ["sweep", "compare", "card", "page"])
def test_a_page_that_cannot_be_written_is_one_line(page, tmp_path):
    sweep = tmp_path / "runs" / "thinker" / "sweep"
    jobs = [make_job(sweep / str(number), lr=0.1, seed=number, loss=1.0) for number in range(2)]
    (tmp_path / "file").write_text("")
    words = {
        "sweep": ["sweep", str(sweep), f"out={tmp_path}/file"],
        "compare": ["compare", *map(str, jobs), f"out={tmp_path}/file/below"],
        "card": [f"root={tmp_path}", f"out={tmp_path}/file"],
        "page": [f"root={tmp_path}", f"out={tmp_path}/out", f"page={tmp_path}/file/page.md"],
    }[page]
    option = "page" if page == "page" else "out"
    with pytest.raises(ValueError, match=rf"file(/below)? cannot be written \(.*\): give another {option}="):
        main(words)


def test_damaged_jobs_of_a_sweep_are_one_line(tmp_path):
    sweep = tmp_path / "sweep"
    jobs = [make_job(sweep / str(number), lr=0.1, seed=number, loss=1.0) for number in range(2)]
    main(["sweep", str(sweep)])
    for content, message in (
        ("{a: 1}", "not a list of options"),
        ("[1, 2]", "not a list of options"),
        ("[", "not YAML"),
    ):
        (jobs[0] / ".hydra" / "overrides.yaml").write_text(content)
        with pytest.raises(ValueError, match=rf"0/\.hydra/overrides\.yaml: {message}"):
            main(["sweep", str(sweep)])
    (jobs[0] / ".hydra" / "overrides.yaml").write_text(json.dumps(["optim.lr=interval(1, 2", "a={b"]))
    main(["sweep", str(sweep)])


def test_a_result_file_that_is_none_is_one_line(tmp_path):
    board = tmp_path / "docs" / "leaderboard.yaml"
    board.parent.mkdir()
    track = {"title": "t", "unit": "u", "better": "lower", "budget": "b", "command": "c", "path": ["speed"]}
    board.write_text(json.dumps({"speed": track}))
    result = tmp_path / "a.json"
    for content, message in (
        ("[", r"a\.json: not JSON"), ("[]", r"not a JSON object"), ('{"speed": [1]}', r"speed is \[1\], not a number"),
    ):  # fmt: skip
        result.write_text(content)
        with pytest.raises(ValueError, match=message):
            main(["leaderboard", f"records={board}", "add=speed", str(result)])
    with pytest.raises(FileNotFoundError, match=r"b\.json: no such file; track speed is measured by result files"):
        main(["leaderboard", f"records={board}", "add=speed", str(tmp_path / "b.json")])
    for content in ("- a", "a: [", "speed: 3"):
        board.write_text(content)
        with pytest.raises(ValueError, match=r"leaderboard\.yaml: "):
            main(["leaderboard", f"records={board}"])
