"""The stages that a stage needs first: found among the exports, or trained by the same command line."""

import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from muomni.checkpoints import is_export, read_description

log = logging.getLogger(__name__)

#: Overrides that hold for the whole line of stages; others are meant for the stage that was named.
SHARED = ("size", "data", "budget", "paths", "seed", "vocab_size", "logger", "prerequisites", "resume", "trainer")
SHARED_KEYS = ("trainer.accelerator", "trainer.devices", "trainer.precision")


def shared_overrides(overrides: Sequence[str]) -> list[str]:
    """Those of a command line's overrides that a prerequisite takes over."""
    kept = []
    for override in overrides:
        key = override.lstrip("+~").split("=", 1)[0]
        whole = key.split(".", 1)[0]
        if key in SHARED_KEYS or (whole in SHARED and not key.startswith("trainer.")):
            kept.append(override)
    return kept


def usable(folder: Path, *, size: str, rank: int) -> bool:
    """Whether an export is there that was trained at this size with at least this budget.

    Raises ValueError where one of another size lies there.
    """
    if not is_export(folder):
        return False
    run: dict[str, Any] = read_description(folder)["facts"].get("run", {})
    if run.get("size") != size:
        raise ValueError(
            f"{folder} was trained with size={run.get('size')}, this run has size={size}: "
            "move it away, or keep the two apart by paths.root=DIR"
        )
    return int(run.get("rank", 0)) >= rank


def ensure(
    needs: Sequence[str], *, stage: str, checkpoints: Path, size: str, rank: int, overrides: Sequence[str], mode: str
) -> None:
    """Train what `stage` needs and `checkpoints` lacks, in order, each in a process of its own.

    mode: "train", or "error": refuse, naming the command. Raises RuntimeError when one of them fails.
    """
    if mode not in ("train", "error"):
        raise ValueError(f"prerequisites={mode}: available are train, error")
    for need in needs:
        if usable(checkpoints / need, size=size, rank=rank):
            continue
        command = [sys.executable, sys.argv[0], f"stage={need}", *shared_overrides(overrides)]
        shown = " ".join(["python", *command[1:]])
        if mode == "error":
            raise FileNotFoundError(f"stage={stage} needs {checkpoints / need}, which is not there: run  {shown}")
        log.info("stage=%s needs stage=%s first:  %s", stage, need, shown)
        done = subprocess.run(command, check=False)
        if done.returncode:
            raise RuntimeError(f"stage={need}, needed by stage={stage}, ended with exit code {done.returncode}")
