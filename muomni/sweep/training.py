"""The training of a trial: a process of `train.py` in the trial's folder, and what became of it.

A training that was killed is resumed from its checkpoint; one without a checkpoint starts from its first step.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from optuna.trial import FrozenTrial, TrialState

from muomni.checkpoints.atomic_write import write_text
from muomni.cli.overrides import quote
from muomni.program import ROOT
from muomni.run.checkpoint_files import has_checkpoint
from muomni.run.signals import PARENT
from muomni.sweep.report import ENDED
from muomni.sweep.space import as_words
from muomni.sweep.study import Spec
from muomni.sweep.trials import Claimed

#: Exit codes of a training that a signal ended, and that can be resumed.
INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGUSR1)
#: Words that name a run of a logger.
NAMED = re.compile(r"logger\.\w+\.(run_)?name=")
LOG, KEPT = "log.txt", (".claim", "log.txt")


class Process(Protocol):
    """What is needed of a `subprocess.Popen`."""

    def wait(self) -> int: ...

    def terminate(self) -> None: ...


#: Starts a training: words of `train.py`, environment, log file, descriptor that it inherits.
Start = Callable[[Sequence[str], Mapping[str, str], IO[bytes], int], Process]


class Ending(NamedTuple):
    """How a trial ended. state: None if it was interrupted and is to be continued. outcome: complete, pruned, diverged or failed.
    reason: of all but complete ones."""

    state: TrialState | None
    outcome: str
    reason: str = ""
    value: float | None = None


def start_process(words: Sequence[str], environment: Mapping[str, str], log: IO[bytes], inherited: int) -> Process:
    """A training as a new process."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *words],
        env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, pass_fds=(inherited,),
    )  # fmt: skip


def words_of(claimed: Claimed, spec: Spec, sweep: Path, run: int) -> list[str]:
    """The command line of a run of a trial."""
    name, seed = spec.runs[run]
    folder, number = claimed.folder / name, claimed.trial.number
    label = "-".join(filter(None, (spec.name, str(number), name)))
    words = [f"{word}{label.removeprefix(spec.name)}" if NAMED.match(word) else word for word in spec.words]
    words = [*words, *as_words(claimed.values), *([] if seed is None else [f"seed={seed}"])]
    own = {
        "hydra.run.dir": folder, "paths.runs": folder / "runs", f"paths.exports.{spec.stage}": folder / "export",
        "+callbacks.trial_report._target_": "callbacks.trial_report.TrialReport", "+callbacks.trial_report.sweep": sweep,
    }  # fmt: skip
    words += [f"{key}={quote(str(value))}" for key, value in own.items()]
    words += [
        "callbacks.progress=null", "prerequisites=error", f"+callbacks.trial_report.number={number}",
        f"+callbacks.trial_report.offset={spec.offset(run)}", f"+callbacks.trial_report.monitor={spec.monitor}",
    ]  # fmt: skip
    return words


def train(claimed: Claimed, spec: Spec, sweep: Path, *, start: Start = start_process) -> Ending:
    """Train a trial's runs that have not ended, one after the other, and say how the trial ended."""
    begun = time.time()
    for run, (name, _) in enumerate(spec.runs):
        folder = claimed.folder / name
        frozen = claimed.trial.study.get_trials(deepcopy=False)[claimed.trial.number]
        if ENDED in frozen.user_attrs or (folder / "metrics.json").is_file():
            continue
        clear(folder)
        code = _run(words_of(claimed, spec, sweep, run), folder, claimed.lock.fileno(), start)
        frozen = claimed.trial.study.get_trials(deepcopy=False)[claimed.trial.number]
        if code in INTERRUPTED:
            return Ending(None, "interrupted", f"the training ended with exit code {code}; it can be resumed")
        if code != 0 and ENDED not in frozen.user_attrs:
            ending = Ending(TrialState.FAIL, "failed", failure(folder / LOG, code))
            break
    else:
        ending = ending_of(claimed.trial.study.get_trials(deepcopy=False)[claimed.trial.number], spec)
    note(claimed, ending, seconds=time.time() - begun)
    return ending


def _run(words: Sequence[str], folder: Path, lock: int, start: Start) -> int:
    """Train; return the exit code. However this process is ended, the training is ended too, and saves first."""
    environment = {**os.environ, PARENT: str(os.getpid())}
    with (folder / LOG).open("ab") as log:
        process = start(words, environment, log, lock)
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise


def clear(folder: Path) -> None:
    """Make the folder of a training, or empty it of what a killed one without a checkpoint left."""
    folder.mkdir(parents=True, exist_ok=True)
    if has_checkpoint(folder):
        return
    for path in folder.iterdir():
        if path.name in KEPT:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def failure(log: Path, code: int) -> str:
    """Why a training failed: the last line that says so of its log."""
    if code < 0:
        killed = signal.Signals(-code).name
        return f"ended by {killed}" + (", as the system does where memory is short" if killed == "SIGKILL" else "")
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:") or "Error: " in line]
    return (errors or lines or [f"exit code {code}"])[-1].removeprefix("error:").strip()


def ending_of(frozen: FrozenTrial, spec: Spec) -> Ending:
    """How a trial whose trainings have ended without a failure ended."""
    ended = frozen.user_attrs.get(ENDED)
    if ended is not None:
        outcome, _, reason = ended.partition(": ")
        return Ending(TrialState.PRUNED, outcome, reason)
    values = [value_of(frozen, spec, run) for run in range(len(spec.runs))]
    if None in values:
        interval = "give trainer.val_check_interval=N of at most the training's steps"
        return Ending(TrialState.FAIL, "failed", f"no validation measured {spec.monitor}: {interval}")
    return Ending(
        TrialState.COMPLETE, "complete", value=sum(value for value in values if value is not None) / len(values)
    )


def value_of(frozen: FrozenTrial, spec: Spec, run: int) -> float | None:
    """A run's value of the monitor: that of the weights which are exported, its last validation's or its best one's."""
    low, high = spec.offset(run), spec.offset(run + 1)
    curve = {step: value for step, value in frozen.intermediate_values.items() if low < step <= high}
    if not curve:
        return None
    if spec.keep == "last":
        return curve[max(curve)]
    return min(curve.values()) if spec.mode == "min" else max(curve.values())


def note(claimed: Claimed, ending: Ending, *, seconds: float) -> None:
    """trial.json in a trial's folder, for people and other programs. Checkpoints of an ended trial are removed."""
    document: dict[str, Any] = {
        "number": claimed.trial.number, "values": claimed.values, "outcome": ending.outcome, "reason": ending.reason,
        "value": ending.value, "seconds": round(seconds, 1),
    }  # fmt: skip
    write_text(claimed.folder / "trial.json", json.dumps(document, indent=2) + "\n")
    for checkpoints in claimed.folder.glob("**/checkpoints"):
        shutil.rmtree(checkpoints, ignore_errors=True)
