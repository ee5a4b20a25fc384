"""Records: three seeds, better than the last by more than the spread, all of it in a file of the repository."""

import json
import shutil

import pytest

from muomni.program import ROOT
from muomni.report.__main__ import main
from muomni.report.leaderboard import portable, read_records, read_tracks, write_leaderboard
from tests.unit.report.test_comparison import make_job

TRACKS = """# The tracks.

loss:
  title: Loss
  unit: nats
  better: lower
  metric: thinker/test/loss
  budget: ten steps
  command: python train.py stage=thinker
  fixed: {trainer.max_steps: 10}
  most: {parameters: 1000}
  records: []

speed:
  title: Speed
  unit: tokens/s
  better: higher
  path: [races, 0, speed]
  budget: one thread
  command: python -m race
  records: []
"""


@pytest.fixture
def board(tmp_path):
    (tmp_path / "docs").mkdir()
    file = tmp_path / "docs" / "board.yaml"
    file.write_text(TRACKS)
    return file


def runs(folder, losses, *, lr=0.1):
    return [str(make_job(folder / str(lr) / str(seed), lr=lr, seed=seed, loss=loss, samples=False))
            for seed, loss in enumerate(losses)]  # fmt: skip


def test_a_command_names_no_folder_of_a_machine():
    command = "python train.py shakespeare=/disk/texts/input.txt paths.root=out a/b"
    assert portable(command) == "python train.py shakespeare=input.txt paths.root=out a/b"


def add(board, track, names):
    main(["leaderboard", f"add={track}", *names, f"records={board}"])


def test_a_record_is_added_and_beaten(board, tmp_path):
    add(board, "loss", runs(tmp_path / "first", (1.0, 1.2, 1.1)))
    add(board, "loss", runs(tmp_path / "second", (0.5, 0.6, 0.7), lr=0.2))
    page = board.with_suffix(".md").read_text()
    assert "| [Loss](#loss) | nats, lower is better | **0.60** (spread 0.2000, n=3) | 2026-11-29 |" in page
    assert (
        page.index("0.60** (spread") < page.index("1.10** (spread")
        and "Some CPU, 1 threads of 2 cores, GPU none" in page
    )
    assert "| [Speed](#speed) | tokens/s, higher is better | none yet |  |" in page and "No record yet." in page
    text = board.read_text()
    assert text.startswith("# The tracks.") and text.count("records: []") == 1 and "speed:\n  title: Speed" in text
    record = json.loads((tmp_path / "benchmarks/results/leaderboard/loss-2.json").read_text())
    assert (
        record["seeds"] == [0, 1, 2]
        and record["command"] == "python train.py optim.lr=0.2"
        and len(record["commit"]) == 40
    )
    assert write_leaderboard(board).read_text() == page


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ((0.2, 0.3), r"add=loss: 2 seeds; a record needs 3"),
        (
            (0.95, 1.0, 1.05),
            r"add=loss: 1 is better by 0\.1000, within the spread of 0\.2000, than the record of 2026-11-29, 1\.10",
        ),
        ((float("nan"), 0.1, 0.1), r"add=loss: nan is no number to compare"),
        ((1.4, 1.4, 1.4), r"add=loss: 1\.40 is not better than the record of 2026-11-29, 1\.10"),
    ],
)
def test_what_is_no_record_is_refused_and_nothing_is_written(board, tmp_path, losses, message):
    add(board, "loss", runs(tmp_path / "first", (1.0, 1.2, 1.1)))
    before = board.read_text()
    with pytest.raises(ValueError, match=message):
        add(board, "loss", runs(tmp_path / "second", losses, lr=0.2))
    assert board.read_text() == before and len(list(tmp_path.glob("benchmarks/results/leaderboard/*"))) == 1


def test_runs_of_another_budget_or_setting_are_refused(board, tmp_path):
    three = runs(tmp_path / "a", (1.0, 1.1, 1.2))
    other = runs(tmp_path / "b", (1.0,), lr=0.3)
    with pytest.raises(ValueError, match=r"differs from .* by more than its seed"):
        add(board, "loss", [*three[:2], *other])
    for old, new, message in (
        ("max_steps: 10", "max_steps: 9", r"trainer\.max_steps=10; the track's budget has trainer\.max_steps=9"),
        ("parameters: 1000", "parameters: 999", r"parameters 1000; the track's budget has at most 999"),
        ("thinker/test/loss", "thinker/test/none", r"has not measured thinker/test/none"),
    ):
        board.write_text(TRACKS.replace(old, new))
        with pytest.raises(ValueError, match=message):
            add(board, "loss", three)


def test_a_benchmark_is_a_record_by_three_result_files(board, tmp_path):
    machine = {"processor": "Some CPU", "cores": 2, "threads": 1, "gpu": "none"}
    files = []
    for number, speed in enumerate((10.0, 11.0, 12.0)):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps({"date": "2026-11-29", "machine": machine, "races": [{"speed": speed}]}))
    add(board, "speed", map(str, files))
    assert "**11.00** (spread 2, n=3)" in board.with_suffix(".md").read_text()
    with pytest.raises(ValueError, match=r"two of the result files are the same run"):
        add(board, "speed", map(str, [files[0], *files]))
    files[0].write_text("{}")
    with pytest.raises(ValueError, match=r"0\.json: no races / 0 / speed, which track speed reads"):
        add(board, "speed", map(str, files))


def test_a_record_without_its_file_or_edited_by_hand_is_refused(board, tmp_path):
    add(board, "loss", runs(tmp_path / "first", (1.0, 1.2, 1.1)))
    (file,) = tmp_path.glob("benchmarks/results/leaderboard/*")
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"seeds": [0, 1], "values": [1.0, 1.0]}))
    with pytest.raises(ValueError, match=r"loss-1\.json: track loss: 2 seeds; a record needs 3"):
        write_leaderboard(board)
    file.write_text(json.dumps(record | {"hardware": ""}))
    with pytest.raises(ValueError, match=r"hardware not stated"):
        write_leaderboard(board)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"loss-1\.json is not there: a record is a committed result file"):
        write_leaderboard(board)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["add=nothing"], r"add=nothing: no such track; there are loss, speed"),
        (["a"], r"a: which track\? add=TRACK"),
        (["records=elsewhere.yaml"], r"elsewhere\.yaml: no such file"),
    ],
)
def test_mistakes_are_one_line(board, words, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        main(["leaderboard", f"records={board}", *words])


def test_the_page_in_the_repository_is_that_of_its_records(tmp_path):
    shutil.copytree(
        ROOT / "docs", tmp_path / "docs", ignore=lambda _, names: [n for n in names if "leaderboard" not in n]
    )
    if (ROOT / "benchmarks/results/leaderboard").is_dir():
        shutil.copytree(ROOT / "benchmarks/results/leaderboard", tmp_path / "benchmarks/results/leaderboard")
    made = write_leaderboard(tmp_path / "docs" / "leaderboard.yaml").read_text()
    assert made == (ROOT / "docs" / "leaderboard.md").read_text()
    tracks = read_tracks(ROOT / "docs" / "leaderboard.yaml")
    assert len(tracks) >= 7 and all(
        isinstance(read_records(ROOT / "docs" / "leaderboard.yaml", n, t), list) for n, t in tracks.items()
    )
