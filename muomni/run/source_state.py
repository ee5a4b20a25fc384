"""What a run was made from: commit and uncommitted changes of the checkout, Python, packages, variables that steer computing."""

import os
import platform
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from muomni.program import ROOT

#: Variables of the environment that change what or how fast a run computes. No others: they may hold secrets.
VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTORCH_CUDA_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE", "TORCHINDUCTOR_CACHE_DIR", "WORLD_SIZE", "SLURM_JOB_ID", "WANDB_MODE",
)  # fmt: skip
MOST = 2_000_000  # characters of a diff that are kept
SECONDS = 20  # that git may take


def _git(*words: str, root: Path) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=SECONDS, check=False, errors="replace"
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):  # no git on this machine, or a checkout on a disk that hangs
        return None
    return done.stdout if done.returncode == 0 else None


def git_state(root: Path = ROOT) -> dict[str, Any]:
    """commit, branch, and whether files differ from the commit (`dirty`) or are unknown to it (`untracked`, by name); empty where
    the program is no checkout."""
    commit = _git("rev-parse", "HEAD", root=root)
    if commit is None:
        return {}
    status = (_git("status", "--porcelain", "--untracked-files=normal", root=root) or "").splitlines()
    return {
        "commit": commit.strip(),
        "branch": (_git("rev-parse", "--abbrev-ref", "HEAD", root=root) or "").strip(),
        "dirty": any(not line.startswith("??") for line in status),
        "untracked": [line[3:] for line in status if line.startswith("??")],
    }


def uncommitted(root: Path = ROOT) -> str:
    """Differences of the tracked files from the commit, as a patch that `git apply` takes; cut after `MOST` characters."""
    return (_git("diff", "HEAD", root=root) or "")[:MOST]


def environment() -> dict[str, Any]:
    """Python, installed packages with their versions, and VARIABLES where they are set."""
    packages = {each.metadata["Name"]: each.version for each in distributions()}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": dict(sorted(packages.items())),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }
