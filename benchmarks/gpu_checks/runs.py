"""Whole runs of train.py on a GPU: two processes, and a run that is killed and started again."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.gpu_checks.measuring import Row, row
from muomni.program import ROOT

TRAIN = (sys.executable, str(ROOT / "train.py"))
TORCHRUN = (
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    str(ROOT / "train.py"),
)
TWO_RANKS = ("stage=thinker", "trainer=ddp", "trainer.max_steps=10", "when_done=train")
KILLED = (
    "stage=thinker", "trainer.max_steps=60", "callbacks.resume_checkpoint.every_n_train_steps=5", "when_done=train",
    "prerequisites=error",
)  # fmt: skip
SLOWEST = 240.0  # seconds of a run


def two_ranks(overrides: Sequence[str], *, program: Sequence[str] = TORCHRUN) -> list[Row]:
    """Ten steps of a Thinker by two processes, where there are two GPUs."""
    if torch.cuda.device_count() < 2 and program is TORCHRUN:
        return [row("2 ranks", "one GPU: not run", None, "s", ok=True)]
    start = time.perf_counter()
    done = subprocess.run([*program, *TWO_RANKS, *overrides], check=False, capture_output=True, timeout=SLOWEST)
    case = "stage=thinker trainer=ddp" + ("" if done.returncode == 0 else f": {last_line(done.stderr)}")
    return [row("2 ranks", case, time.perf_counter() - start, "s", ok=done.returncode == 0)]


def resume_after_kill(root: Path, overrides: Sequence[str], *, program: Sequence[str] = TRAIN) -> list[Row]:
    """A run that is killed after its first checkpoint and started again by the same command: it resumes in the same folder. root:
    `paths.root` of the overrides."""
    command, start = [*program, *KILLED, *overrides], time.perf_counter()
    folder = root / "runs/thinker"
    before = set(folder.glob("*/"))
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not list(new_checkpoints(folder, before)) and first.poll() is None:
            if time.perf_counter() - start > SLOWEST:
                return [row("resume after a kill", "no checkpoint came", None, "s", ok=False)]
            time.sleep(0.05)
    finally:
        first.kill()
        killed = first.wait() != 0
    done = subprocess.run(command, check=False, capture_output=True, timeout=SLOWEST)
    folders = set(folder.glob("*/")) - before
    case = f"killed: {killed}, folders: {len(folders)}" + ("" if not done.returncode else f", {last_line(done.stderr)}")
    ok = killed and len(folders) == 1 and done.returncode == 0
    return [row("resume after a kill", case, time.perf_counter() - start, "s", ok=ok)]


def new_checkpoints(folder: Path, before: set[Path]) -> list[Path]:
    """Of runs that were not there before."""
    return [path for run in set(folder.glob("*/")) - before for path in run.glob("checkpoints/last.ckpt")]


def last_line(output: bytes) -> str:
    """What a program said last."""
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1][:120] if lines else "it said nothing"
