"""Sweeps by Hydra's launchers: on SLURM as far as it is composed here, by joblib in earnest."""

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from muomni.cli.errors import CONF
from tests.conftest import run_script


@pytest.mark.parametrize(("launcher", "plugin"), [("submitit_slurm", "submitit"), ("joblib", "joblib")])
def test_a_launcher_composes(launcher: str, plugin: str) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{plugin}_launcher", reason="pip install 'muomni[cluster]'")
    overrides = [f"hydra/launcher={launcher}", "stage=thinker"]
    if plugin == "submitit":
        overrides += [
            "hydra.launcher.partition=gpu",
            "hydra.launcher.gpus_per_node=1",
            "hydra.launcher.timeout_min=240",
        ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = compose("train", overrides=overrides, return_hydra_config=True).hydra.launcher
    assert f"hydra_{plugin}_launcher" in found["_target_"]


@pytest.mark.slow
def test_joblib_runs_a_sweep(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="pip install 'muomni[cluster]'")
    done = run_script(
        "train.py", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "stage=thinker", "budget=ci",
        "data.preset=ci", f"paths.root={tmp_path}", "optim.lr=1e-3,3e-3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = [json.loads(file.read_text()) for file in sorted(tmp_path.glob("runs/thinker/*/[01]/metrics.json"))]
    assert len(metrics) == 2 and metrics[0]["thinker/test/loss"] != metrics[1]["thinker/test/loss"]
