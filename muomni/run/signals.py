"""Effect of signals on a training run, and its exit codes.

SIGINT (Ctrl-C) ends it with 130, SIGTERM with 143. In a SLURM job SIGUSR1, which `#SBATCH --signal=USR1@90` sends 90 seconds
before the time limit, requeues the job; the restarted command resumes (resume=auto).
"""

import ctypes
import logging
import os
import signal
import subprocess
import sys
from types import FrameType
from typing import NoReturn

log = logging.getLogger(__name__)

#: Environment variable with the id of the process that started this one to train a prerequisite.
PARENT = "MUOMNI_PARENT"
PR_SET_PDEATHSIG = 1


def watched() -> list[signal.Signals]:
    """The signals that end a run."""
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if "SLURM_JOB_ID" in os.environ else [])]


def listen() -> None:
    """Install handlers: each signal ends the process at once, with its exit code and without a traceback. During training
    callbacks/interrupts.py replaces them."""
    for number in watched():
        signal.signal(number, leave)
    if PARENT in os.environ:
        _end_with(int(os.environ.pop(PARENT)))


def _end_with(parent: int) -> None:
    """Request a SIGTERM for when the parent dies, for whatever reason, so that no prerequisite trains on (Linux)."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it is dead already
        leave(signal.SIGTERM)


def leave(number: int, frame: FrameType | None = None) -> NoReturn:
    """Exit with the code of the signal; SIGUSR1 requeues the SLURM job first."""
    log.warning("\nended by %s", signal.Signals(number).name)
    if number == signal.SIGUSR1:
        requeue()
    sys.exit(128 + number)


def requeue() -> None:
    """Requeue this SLURM job; a no-op in all processes but the first."""
    if os.environ.get("SLURM_PROCID", "0") != "0":
        return
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
        problem = done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else None
    except OSError as error:
        problem = str(error)
    if problem:
        log.error("scontrol requeue %s failed: %s; start the same command again yourself", job, problem)
    else:
        log.warning("SLURM job %s is in the queue again", job)
