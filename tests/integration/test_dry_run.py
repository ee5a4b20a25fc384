"""`dry_run=true` says what a training takes, of the stages that are lacking first too, and leaves nothing."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import BUDGET, run_script


def files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_dry_run_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    done = run_script("train.py", "stage=thinker", *BUDGET, "dry_run=true", f"paths.root={root}", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "memory expected" in done.stderr
    assert "on this machine for" in done.stderr
    assert files(tmp_path) == {}


def test_what_is_not_a_training_is_refused(tmp_path: Path) -> None:
    done = run_script("train.py", "stage=thinker", "task=test", "dry_run=true", f"paths.root={tmp_path}")
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith("error: dry_run=true task=test: only a training can be estimated")
    )


@pytest.mark.slow
def test_lacking_stages_are_estimated_too(line: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(line, root, symlinks=True)
    for stage in ("audio", "codec"):
        shutil.rmtree(root / "checkpoints" / stage)
    before = files(root)
    done = run_script("train.py", "stage=talker", *BUDGET, "dry_run=true", f"paths.root={root}", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr[-4000:]
    assert "in all about" in done.stderr
    assert all(f"stage={stage}: about" in done.stderr for stage in ("audio", "codec", "talker"))
    assert files(root) == before
