"""A killed run goes on with another number of processes: in its own folder, with the samples that would have come."""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import run_script

#: Kills a run in its fifth step, and says what the second one left.
SCRIPT = """
import json, sys
from pathlib import Path
from benchmarks.faults import fork_server
from benchmarks.faults.kills import command, left, warm

warm()
stage, root, folder, before, after, trainer = json.loads(sys.argv[1])
root, folder = Path(root), Path(folder)

def run(ranks, **how):
    words = [word.replace("trainer=ddp", trainer) for word in command(stage, root, folder, workers=0, ranks=ranks)]
    return fork_server.run([*words, "trainer.precision=32-true"], folder=folder, ranks=ranks, limit=120, **how)

if before:
    assert run(before, kill=fork_server.Kill("step 5", 0.0)).code == -9
done = run(after)
assert done.code == 0, done.log
weights, metrics, rows, _ = left(folder, 0)
lines = [line.split() for file in sorted(folder.glob("samples.*")) for line in file.read_text().splitlines()]
losses = [float(row[f"{stage}/train/loss"]) for row in rows if f"{stage}/train/loss" in row]
print(json.dumps({"lines": lines, "losses": losses, "metrics": metrics, "log": done.log}))
"""

Runs = Callable[..., dict]


@pytest.fixture(scope="module")
def runs(line: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """What a run leaves that `before` processes began and `after` went on with."""
    script = tmp_path_factory.mktemp("runs") / "ranks.py"
    script.write_text(SCRIPT)

    def run(stage: str, folder: Path, *, before: int, after: int, trainer: str = "ddp") -> dict:
        said = run_script(str(script), json.dumps([stage, str(line), str(folder), before, after, f"trainer={trainer}"]))
        assert said.returncode == 0, said.stderr[-3000:]
        return json.loads(said.stdout.splitlines()[-1])

    return run


def samples(run: dict) -> dict[str, list[str]]:
    """Batch -> its samples; a batch that was trained on twice, and a share of it by each process, count once."""
    found: dict[str, set[str]] = {}
    for number, *ids in run["lines"]:
        found.setdefault(number, set()).update(ids)
    return {number: sorted(ids) for number, ids in found.items()}


@pytest.fixture(scope="module")
def alone(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], dict]:
    """What a run of so many processes leaves that was never killed; of each there is one."""
    return functools.cache(
        lambda stage, ranks: runs(stage, tmp_path_factory.mktemp(f"{stage}-{ranks}"), before=0, after=ranks)
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
    stage: str, before: int, after: int, alone: Callable[[str, int], dict], runs: Runs, tmp_path: Path
) -> None:
    other = runs(stage, tmp_path, before=before, after=after)
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
    stage: str, ranks: int, alone: Callable[[str, int], dict], runs: Runs, tmp_path: Path
) -> None:
    """The whole command with trainer=fsdp2: its own optimizer, checkpoints, a validation in the middle of which one process
    has no batch, and the export."""
    shared = runs(stage, tmp_path, before=0, after=2, trainer="fsdp2")
    assert samples(shared) == samples(alone(stage, ranks))
    assert shared["losses"] == pytest.approx(alone(stage, ranks)["losses"], rel=1e-3)
    measured, expected = (
        {name: value for name, value in run["metrics"].items() if "/train/" not in name}  # padding is that of a process
        for run in (shared, alone(stage, ranks))
    )
    assert measured == pytest.approx(expected, rel=0.05, abs=0.05)
