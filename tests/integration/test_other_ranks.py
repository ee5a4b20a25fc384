"""A killed run goes on with another number of processes: in its own folder, with the samples that would have come."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

#: In a process of its own, of which the runs are forks. Kills a run in its fifth step, and says what the second one left.
SCRIPT = """
import json, sys
from pathlib import Path
from benchmarks.faults import fork_server
from benchmarks.faults.kills import command, left, warm
stage, root, folder, before, after = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
trainer = sys.argv[6]
warm()
run = lambda ranks, **how: fork_server.run(
    [word.replace("trainer=ddp", trainer) for word in command(stage, root, folder, workers=0, ranks=ranks)]
    + ["trainer.precision=32-true"], folder=folder, ranks=ranks, limit=120, **how
)
if before:
    assert run(before, kill=fork_server.Kill("step 5", 0.0)).code == -9
done = run(after)
assert done.code == 0, done.log
weights, metrics, rows, _ = left(folder, 0)
lines = [line.split() for file in sorted(folder.glob("samples.*")) for line in file.read_text().splitlines()]
losses = [float(row[f"{stage}/train/loss"]) for row in rows if f"{stage}/train/loss" in row]
print(json.dumps({"lines": lines, "losses": losses, "metrics": metrics, "log": done.log}))
"""


def left(stage: str, root: Path, folder: Path, *, before: int, after: int, trainer: str = "ddp") -> dict:
    """What a run leaves that `before` processes began and `after` went on with."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, stage, str(root), str(folder), str(before), str(after), f"trainer={trainer}"],
        cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def samples(run: dict) -> dict[str, list[str]]:
    """Batch -> its samples; a batch that was trained on twice, and a share of it by each process, count once."""
    found: dict[str, set[str]] = {}
    for number, *ids in run["lines"]:
        found.setdefault(number, set()).update(ids)
    return {number: sorted(ids) for number, ids in found.items()}


@pytest.fixture(scope="module")
def alone(line: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], dict]:
    """What a run of so many processes leaves that was never killed; of each there is one."""
    return functools.cache(
        lambda stage, ranks: left(stage, line, tmp_path_factory.mktemp(f"{stage}-{ranks}"), before=0, after=ranks)
    )


@pytest.mark.parametrize(
    ("stage", "before", "after"),
    [
        ("thinker", 1, 2),
        pytest.param("thinker", 2, 1, marks=pytest.mark.slow),
        pytest.param("audio", 1, 2, marks=pytest.mark.slow),
        pytest.param("audio", 2, 1, marks=pytest.mark.slow),
    ],
)
def test_goes_on_with_another_number_of_processes(
    stage: str, before: int, after: int, alone: Callable[[str, int], dict], line: Path, tmp_path: Path
) -> None:
    other = left(stage, line, tmp_path, before=before, after=after)
    assert "resuming from" in other["log"] and "Warning" not in other["log"]
    assert "not resumable" not in other["log"], "the position is the datamodule's: Lightning's warning is not true"
    assert samples(other) == samples(alone(stage, 1))
    assert other["losses"] == pytest.approx(alone(stage, 1)["losses"], rel=1e-3)
    assert other["metrics"].keys() == alone(stage, 1)["metrics"].keys()


@pytest.mark.parametrize(
    ("stage", "ranks"),
    [
        ("thinker", 1),
        pytest.param("audio", 1, marks=pytest.mark.slow),
        pytest.param("vision", 1, marks=pytest.mark.slow),
        pytest.param(
            "codec", 2, marks=pytest.mark.slow
        ),  # each process draws its own windows, and its own disturbances
        pytest.param("talker", 2, marks=pytest.mark.slow),
    ],
)
def test_processes_that_share_the_model_train_as_those_that_do_not(
    stage: str, ranks: int, alone: Callable[[str, int], dict], line: Path, tmp_path: Path
) -> None:
    """The whole command with trainer=fsdp2: its own optimizer, checkpoints, a validation in the middle of which one process
    has no batch, and the export."""
    shared = left(stage, line, tmp_path, before=0, after=2, trainer="fsdp2")
    assert samples(shared) == samples(alone(stage, ranks))
    assert shared["losses"] == pytest.approx(alone(stage, ranks)["losses"], rel=1e-3)
    measured, expected = (
        {name: value for name, value in run["metrics"].items() if "/train/" not in name}  # padding is that of a process
        for run in (shared, alone(stage, ranks))
    )
    assert measured == pytest.approx(expected, rel=0.05, abs=0.05)
