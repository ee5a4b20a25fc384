"""A run that is killed and started again ends with the very weights of one that was not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import ROOT, run_script

COMMON = (
    "stage=thinker", "budget=ci", "data.preset=ci", "budget.thinker.max_steps=12", "module.compile_model=false",
    "datamodule.batch_size=8", "callbacks.resume_checkpoint.every_n_train_steps=3",
)  # fmt: skip


def _wait_for(pattern: str, root: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if list(root.glob(pattern)) or process.poll() is not None:
            return
        time.sleep(0.05)
    raise TimeoutError(pattern)


def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = run_script("train.py", *COMMON, f"paths.root={whole}")
    assert done.returncode == 0, done.stderr[-2000:]
    process = subprocess.Popen(
        [sys.executable, "train.py", *COMMON, f"paths.root={killed}"], cwd=ROOT, stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    _wait_for("runs/thinker/*/checkpoints/last.ckpt", killed, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "checkpoints" / "thinker").exists()
    again = run_script("train.py", *COMMON, f"paths.root={killed}")
    assert again.returncode == 0, again.stderr[-2000:]
    assert "going on from" in again.stderr
    weights = [root / "checkpoints" / "thinker" / "model.safetensors" for root in (whole, killed)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
