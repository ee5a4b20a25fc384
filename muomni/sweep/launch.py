"""Starts the workers of a sweep: in this process, in several on this machine, or as jobs of SLURM (submitit)."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from muomni.run.signals import PARENT
from muomni.short_repr import shown
from muomni.sweep.training import Start, start_process
from muomni.sweep.worker import say, work

LAUNCHERS = ("local", "submitit_slurm", "submitit_local")
#: Options of submitit that are the same for every cluster; all others are SLURM's.
GENERAL = ("timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb", "nodes", "tasks_per_node", "name")
#: Minutes of a job, where none are given (submitit's own 5 are too few for a training), and how often it is queued again.
MINUTES, REQUEUED = 1440, 100


def launch(sweep: Path, *, launcher: str, workers: int, options: Mapping[str, str]) -> int:
    """Let `workers` workers train the trials of a sweep, and wait for them. Returns an exit code: 130 if a training was
    interrupted, 1 if a worker failed."""
    if launcher == "local":
        return _here(sweep, workers)
    cluster = launcher.removeprefix("submitit_")
    return wait(submit(sweep, cluster=cluster, workers=workers, options=options), cluster=cluster)


def _here(sweep: Path, workers: int) -> int:
    if workers == 1:
        return 0 if work(sweep) else 130
    processes = [
        subprocess.Popen([sys.executable, "-m", "muomni.sweep.worker", str(sweep)], env=_share(number, workers))
        for number in range(workers)
    ]
    try:
        codes = [process.wait() for process in processes]
    except BaseException:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        raise
    return next((code for code in codes if code not in (0, 130)), max(codes))


def _share(number: int, workers: int) -> dict[str, str]:
    """The environment of a worker: its share of the cores, one GPU where there are several; it ends with this process."""
    environment = {**os.environ, PARENT: str(os.getpid())}
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    if torch.cuda.device_count() > 1:
        given = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        gpus = given or [str(index) for index in range(torch.cuda.device_count())]
        environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    return environment


class SlurmWorker:
    """A worker as a job. One that reaches its time limit or is preempted is queued again, and continues its trial."""

    def __init__(self, sweep: str, start: Start) -> None:
        self.sweep, self.start = sweep, start

    def __call__(self) -> bool:
        return work(Path(self.sweep), start=self.start)

    def checkpoint(self) -> Any:
        """What submitit queues again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def submit(
    sweep: Path, *, cluster: str, workers: int, options: Mapping[str, str], start: Start = start_process
) -> list[Any]:
    """Workers as jobs of submitit. Raises ValueError in one line for what submitit or SLURM refuses."""
    try:
        import submitit
    except ImportError:
        raise ValueError(f"launcher=submitit_{cluster}: pip install 'muomni[cluster]'") from None
    limits = {f"{name}_max_num_timeout": REQUEUED for name in ("slurm", "local") if name == cluster}
    try:
        executor = submitit.AutoExecutor(folder=sweep / "jobs", cluster=cluster, **limits)
        executor.update_parameters(**{"timeout_min": MINUTES, "name": sweep.name, **_parameters(options)})
        jobs = [executor.submit(SlurmWorker(str(sweep.resolve()), start)) for _ in range(workers)]
    except (
        NameError,
        TypeError,
        ValueError,
        RuntimeError,
        OSError,
    ) as error:  # an unknown option; no SLURM here; its refusal
        raise ValueError(
            f"launcher=submitit_{cluster}: {shown(' '.join(str(error).split()), str, most=300)}"
        ) from error
    say(f"{len(jobs)} jobs: {', '.join(job.job_id for job in jobs)}; logs in {sweep / 'jobs'}")
    return jobs


def wait(jobs: Sequence[Any], *, cluster: str) -> int:
    """The exit code of jobs, once all have ended. Ctrl-C ends those on this machine; those of SLURM go on."""
    try:
        results = [job.exception() or job.result() for job in jobs]
    except BaseException:
        if cluster == "slurm":
            say(f"the jobs go on; to end them: scancel {' '.join(job.job_id for job in jobs)}")
        else:
            for job in jobs:
                job.cancel(check=False)
        raise
    for result in results:
        if isinstance(result, Exception):
            say(f"a worker failed: {_last_line(result)}")
    return 0 if all(result is True for result in results) else 1


def _parameters(options: Mapping[str, str]) -> dict[str, Any]:
    """slurm.NAME=VALUE as submitit's parameters; numbers as numbers."""
    return {
        (name if name in GENERAL else f"slurm_{name}"): int(value) if value.isdigit() else value
        for name, value in options.items()
    }


def _last_line(error: BaseException) -> str:
    lines: Sequence[str] = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1]
