"""A search by processes of train.py: its folders and W&B runs, what fails, and the same command again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import BUDGET, FIXED, ROOT
from tests.wandb_records import wandb_records

pytest.importorskip("optuna", reason="pip install 'muomni[sweep]'")


@pytest.mark.slow
def test_a_search_trains_marks_and_continues(line: Path) -> None:
    words = [
        "stage=thinker", "optim.lr=1e-2,-1", "trials=2", "name=real", "logger=[wandb]", *BUDGET, f"paths.root={line}",
        "+trainer.limit_test_batches=1", "search_seed=5",  # of which one trial has each value
    ]  # fmt: skip
    before = (line / "checkpoints" / "thinker" / "model.safetensors").read_bytes()
    environment = {**os.environ, **FIXED, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    for workers in (1, 2):  # the second time there is nothing left to do
        command = [sys.executable, "-m", "muomni.sweep", *words, f"workers={workers}"]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False, timeout=500
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert "2 of 2 ended" in done.stderr and done.stderr.count(" begins: ") == (2 if workers == 1 else 0)
    sweep = line / "runs" / "sweeps" / "real"
    notes = {path: json.loads((path / "trial.json").read_text()) for path in sorted((sweep / "trials").iterdir())}
    assert [(path.name, note["values"]["optim.lr"]) for path, note in notes.items()] == [("0", -1), ("1", 1e-2)]
    for folder, note in notes.items():
        if note["values"]["optim.lr"] == -1:
            assert (note["outcome"], note["value"]) == ("failed", None) and note["reason"].startswith("optim.lr=-1: ")
            continue
        assert note["outcome"] == "complete" and (folder / "export" / "model.safetensors").is_file()
        assert "thinker/test/loss" in json.loads((folder / "metrics.json").read_text())
        (file,) = folder.glob("wandb/offline-run-*/*.wandb")
        run = next(record.run for record in wandb_records(file) if record.HasField("run"))
        assert (run.run_group, run.display_name) == ("real", f"real-{folder.name}")
    assert (line / "checkpoints" / "thinker" / "model.safetensors").read_bytes() == before
