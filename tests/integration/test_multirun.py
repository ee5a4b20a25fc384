"""A Hydra sweep: one folder and one W&B run a job, each with its own configuration and metrics; a job that fails is marked."""

import csv
import itertools
import json
import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import run_script
from tests.wandb_records import wandb_records

RATE, SEEDS, WRONG = 1e-3, (0, 1), -1


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of a rate, and of one that no optimizer takes."""
    root = tmp_path_factory.mktemp("sweep")
    done = run_script(
        "train.py", "-m", "stage=thinker", f"optim.lr={WRONG},1e-3", "seed=0,1", "budget=ci", "data.preset=ci",
        "module.training.compile_model=false", "trainer.log_every_n_steps=1", "logger=[wandb]", f"paths.root={root}",
        "+trainer.limit_test_batches=1", WANDB_SILENT="true", WANDB_MODE="offline",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr[-3000:]
    assert len(re.findall(r"^job [01] \(.*\) failed: optim\.lr=-1: ", done.stderr, flags=re.MULTILINE)) == 2
    assert "Traceback" not in done.stderr and "best of 2 is job " in done.stderr
    (found,) = (root / "runs" / "thinker").iterdir()
    return found


def test_each_job_has_its_folder_configuration_and_metrics(sweep: Path) -> None:
    jobs = sorted(path for path in sweep.iterdir() if path.is_dir())
    assert [job.name for job in jobs] == ["0", "1", "2", "3"]
    for job, (rate, seed) in zip(jobs, itertools.product((WRONG, RATE), SEEDS), strict=True):
        config = yaml.safe_load((job / ".hydra" / "config.yaml").read_text())
        assert (config["optim"]["lr"], config["seed"]) == (rate, seed)
        assert (job / "failed.json").is_file() == (rate == WRONG) != (job / "metrics.json").is_file()
        if rate == WRONG:
            assert json.loads((job / "failed.json").read_text())["error"].startswith("optim.lr=-1: ")
            continue
        assert "thinker/test/loss" in json.loads((job / "metrics.json").read_text())
        resolved = yaml.safe_load((job / "hparams.yaml").read_text())
        assert resolved["module"]["training"]["optimizer"]["lr"] == rate and resolved["datamodule"]["seed"] == seed
        with (job / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert any(row.get("thinker/train/loss") for row in rows)


def test_each_job_is_a_wandb_run_of_the_sweeps_group(sweep: Path) -> None:
    """Read back from what W&B wrote: nothing of a run is in another's file."""
    losses, ids = [], set()
    for job, seed in zip(("2", "3"), SEEDS, strict=True):
        (file,) = (sweep / job).glob("wandb/offline-run-*/*.wandb")
        records = list(wandb_records(file))
        (run,) = {record.run.run_id: record.run for record in records if record.HasField("run")}.values()
        changes = [record.run.config for record in records if record.HasField("run")]
        changes += [record.config for record in records if record.HasField("config")]
        config = {item.key: json.loads(item.value_json) for change in changes for item in change.update}
        logged = [item for record in records if record.HasField("history") for item in record.history.item]
        measured = {"/".join(item.nested_key) or item.key: item.value_json for item in logged}
        assert (run.run_group, run.display_name) == (f"thinker-{sweep.name}", f"thinker-{sweep.name}-{job}")
        assert any(record.HasField("exit") for record in records)  # wandb.finish()
        assert config["optim"]["lr"] == RATE and config["seed"] == seed
        losses.append(float(measured["thinker/test/loss"]))
        assert json.loads((sweep / job / "metrics.json").read_text())["thinker/test/loss"] == pytest.approx(losses[-1])
        ids.add(run.run_id)
    assert len(ids) == 2 and len(set(losses)) == 2
