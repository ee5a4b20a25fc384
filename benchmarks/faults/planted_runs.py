"""python -m benchmarks.faults.planted_runs     faults planted around real runs: is each one clear line, and is nothing lost?

    stages=a,b        default: every stage        faults=a,b
    root=DIR          folder of data and prerequisites; default: a temporary folder, filled by two steps of each stage
    out=FILE          the results as JSON, default reports/planted_runs.json

    truncated_checkpoint   a run is killed, and half of its newest checkpoint is cut off: the next one must say so by the
                           file's name and resume from the one before
    disk_full              no file may grow over a size below a checkpoint's (RLIMIT_FSIZE) from the third step on
    dead_worker            a worker of the data loader is killed in the third step

The last two must end the run with exit code 1 and an error of one line. After each fault the same command is started again
without it, and must end with the weights, metrics and rows, bit for bit, of an uninterrupted run, trained on the
same samples.
"""

import multiprocessing
import os
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning import Callback

from benchmarks.faults import fork_server
from benchmarks.faults.kills import Whole, command, compare, prepare, train_whole, warm
from benchmarks.faults.outcome import Outcome, report
from benchmarks.stages import STAGES
from muomni.cli.key_value import read_options, run_program

OWN = {"stages": STAGES, "faults": (), "root": "", "out": "reports/planted_runs.json"}
WORKERS = 2
STEP = 2  # the faulty step, from 0
SMALLEST = 100_000  # bytes; any checkpoint is larger, logs are smaller
#: (command line, folder) -> (whether the faulty run ended as it should, what is said of it).
Plant = Callable[[list[str], Path], tuple[bool, str]]


class DiskFull(Callback):
    """From step STEP on, no checkpoint may grow over SMALLEST bytes. (Set as it is saved: workers of a loader would inherit
    the limit, and it holds for shared memory too.)"""

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if trainer.global_step > STEP:
            resource.setrlimit(resource.RLIMIT_FSIZE, (SMALLEST, SMALLEST))


class DeadWorker(Callback):
    """In step STEP, one of the loader's workers is killed."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == STEP:
            worker = multiprocessing.active_children()[0]
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)


def _killed(arguments: list[str], folder: Path) -> tuple[bool, str]:
    """Kill a run after its second checkpoint, and truncate that to half."""
    first = fork_server.run(arguments, folder=folder, kill=fork_server.Kill("step 5", 0.0))
    (newest,) = (folder / "runs").glob("**/checkpoints/last.ckpt")
    os.truncate(newest, newest.stat().st_size // 2)
    return first.code == -9, "last.ckpt is damaged"


def _failing(plant: type[Callback], said: str) -> Plant:
    """A run that ends by itself, with one line."""

    def run(arguments: list[str], folder: Path) -> tuple[bool, str]:
        planted = f"+callbacks.plant={{_target_:benchmarks.faults.planted_runs.{plant.__name__}}}"
        first = fork_server.run([*arguments, planted], folder=folder)
        errors = [line for line in first.log.splitlines() if line.startswith("error: ")]
        clear = first.code == 1 and len(errors) == 1 and said in errors[0] and "Traceback" not in first.log
        return clear, errors[0] if clear else f"exit code {first.code}\n{first.log[-3000:]}"

    return run


FAULTS: dict[str, Plant] = {
    "truncated_checkpoint": _killed,
    "disk_full": _failing(DiskFull, "cannot save"),
    "dead_worker": _failing(DeadWorker, "a worker of the data loader died"),
}


def run_case(whole: Whole, stage: str, fault: str, root: Path) -> Outcome:
    """One fault in one stage, and the same command again."""
    with tempfile.TemporaryDirectory(prefix="muomni-fault-") as name:
        folder = Path(name)
        arguments = command(stage, root, folder, workers=WORKERS, ranks=1)
        ended, said = FAULTS[fault](arguments, folder)
        if not ended:
            return Outcome(stage, fault, False, f"not as it should: {said}")
        again = fork_server.run(arguments, folder=folder)
        if fault == "truncated_checkpoint":
            named = [line for line in again.log.splitlines() if said in line]
            if not named:
                return Outcome(stage, fault, False, f"silent: {again.log[-300:]}")
            said = named[0]
        if again.code:
            return Outcome(stage, fault, False, f"started again, it fails: {again.log[-300:]}")
        differs, lost = compare(folder, whole, ranks=1)
        if differs or lost:
            return Outcome(stage, fault, False, f"afterwards {differs} differ, {lost} samples lost")
        return Outcome(stage, fault, True, said.replace(name, "FOLDER"))


def run_cases(stages: Sequence[str], faults: Sequence[str], root: str) -> Iterator[Outcome]:
    warm()
    with tempfile.TemporaryDirectory(prefix="muomni-planted-") as temporary:
        folder = Path(root or temporary).resolve()
        prepare(folder, stages)
        for stage in stages:
            whole = train_whole(stage, folder, Path(temporary) / "whole" / stage, workers=0, ranks=1)
            for fault in faults:
                yield run_case(whole, stage, fault, folder)


def main(arguments: list[str]) -> int:
    """Run all cases, print and write the results; exit code 1 if one was not caught."""
    options = read_options(arguments, OWN)
    return report(run_cases(options["stages"], options["faults"] or list(FAULTS), options["root"]), options["out"])


if __name__ == "__main__":
    run_program(main)
