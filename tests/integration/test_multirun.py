"""A Hydra sweep: one folder and one run a job, each with its own metrics."""

import csv
import json
from pathlib import Path

import yaml

from tests.conftest import run_script


def test_a_sweep_leaves_a_folder_and_metrics_for_each_job(tmp_path: Path) -> None:
    done = run_script(
        "train.py", "-m", "stage=thinker", "optim.lr=1e-3,3e-4", "budget=ci", "data.preset=ci",
        "module.training.compile_model=false", "trainer.log_every_n_steps=1", "logger=[wandb]", f"paths.root={tmp_path}",
        WANDB_SILENT="true",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (sweep,) = (tmp_path / "runs" / "thinker").iterdir()
    jobs = sorted(path for path in sweep.iterdir() if path.is_dir())
    assert [job.name for job in jobs] == ["0", "1"]
    for job, rate in zip(jobs, (1e-3, 3e-4), strict=True):
        config = yaml.safe_load((job / ".hydra" / "config.yaml").read_text())
        assert config["optim"]["lr"] == rate
        assert "thinker/test/loss" in json.loads((job / "metrics.json").read_text())
        with (job / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert any(row.get("thinker/train/loss") for row in rows)
        assert len(list(job.glob("wandb/offline-run-*"))) == 1
