"""Fixtures shared by all tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)  # the tensors of tests are tiny: more threads only wait for each other

SHARED = ROOT.parent / "shared" / "data"


def run_script(
    script: str, *arguments: str, timeout: float = 600, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a script of the checkout as a user would; one thread, CPU."""
    return subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _own_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on how the user has set these."""
    monkeypatch.delenv("MUOMNI_TRACEBACK", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder in which the whole line of stages was trained for two steps each on the ci world, by one go."""
    root = tmp_path_factory.mktemp("line")
    done = run_script("train.py", "stage=omni_sft", "budget=ci", "data.preset=ci", f"paths.root={root}")
    assert done.returncode == 0, done.stderr[-4000:]
    return root


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real recordings and pictures beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data at {SHARED}")
    return SHARED
