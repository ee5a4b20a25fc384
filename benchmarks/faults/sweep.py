"""python -m benchmarks.faults.sweep     a search in several processes, killed at random moments and started again

    trials=20 workers=2 kills=3     how many                 storage=journal   or sqlite
    stage=thinker                   of what                  seed=0            of the search and of the moments
    root=DIR                        of data and the sweep; default: a temporary one
    out=FILE                        the numbers as JSON

A trial trains six steps on the ci world, with a checkpoint and a validation every two. After each part of the trials, and up to
three seconds more, SIGKILL ends all workers and their trainings at once; then the same workers start again. In the end there must
be so many trials, each ended once, with values of its own, one folder, and each step of its training once.
"""

import csv
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import train
from benchmarks.faults import fork_server
from benchmarks.faults.child import become
from benchmarks.faults.kills import warm
from benchmarks.results import table, write_results
from muomni.cli.errors import one_line_errors
from muomni.cli.key_value import read_options, run_program
from muomni.sweep.__main__ import plan, read_command
from muomni.sweep.storage import FILES
from muomni.sweep.study import Spec, begin, load
from muomni.sweep.trials import trial_folder
from muomni.sweep.worker import outcome, work

OWN = {
    "trials": 20,
    "workers": 2,
    "kills": 3,
    "stage": "thinker",
    "storage": "journal",
    "seed": 0,
    "root": "",
    "out": "",
}
STEPS, EVERY = 6, 2
#: File of a sweep's folder with the ids of its trainings' processes.
PIDS = "pids"
LONGEST_DELAY = 3.0


class Forked:
    """A training as a fork of this process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def terminate(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)


def forked(words: Sequence[str], environment: Mapping[str, str], log: IO[bytes], inherited: int) -> Forked:
    """Start a training; its process id is noted in the sweep's folder."""
    sweep = next(
        word.partition("=")[2].strip('"') for word in words if word.startswith("+callbacks.trial_report.sweep=")
    )
    pid = os.fork()
    if pid == 0:

        def program() -> None:
            with one_line_errors():
                train.main()

        become(program, [str(fork_server.ROOT / "train.py"), *words], folder=fork_server.ROOT, environment=environment,
               descriptors={1: log.fileno(), 2: log.fileno()})  # fmt: skip
    with (Path(sweep) / PIDS).open("a") as file:
        file.write(f"{pid}\n")
    return Forked(pid)


def command(options: Mapping[str, Any], root: Path) -> list[str]:
    """The words of the sweep."""
    stage = options["stage"]
    return [
        f"stage={stage}", f"search={stage}", f"trials={options['trials']}", f"storage={options['storage']}", "name=killed",
        f"search_seed={options['seed']}", "budget=ci", "data.preset=ci", f"budget.{stage}.max_steps={STEPS}",
        f"paths.root={root}", f"trainer.val_check_interval={EVERY}", "trainer.log_every_n_steps=1",
        "trainer.limit_val_batches=1", "+trainer.limit_test_batches=1", "datamodule.eval_batch_size=8",
        f"callbacks.resume_checkpoint.every_n_train_steps={EVERY}",
    ]  # fmt: skip


def start_workers(sweep: Path, count: int) -> list[int]:
    """Process ids of so many workers."""
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if work(sweep, start=forked) else 130
            finally:
                os._exit(code)
        pids.append(pid)
    return pids


def kill_all(sweep: Path, workers: Sequence[int]) -> int:
    """SIGKILL the workers, then their trainings. Returns how many trainings were running."""
    for pid in workers:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in workers:
        os.waitpid(pid, 0)
    killed = 0
    for line in (sweep / PIDS).read_text().splitlines():
        if _is_training(int(line)):
            with suppress(ProcessLookupError):
                os.kill(int(line), signal.SIGKILL)
                killed += 1
    while any(_is_training(int(line)) for line in (sweep / PIDS).read_text().splitlines()):
        time.sleep(0.05)
    return killed


def _is_training(pid: int) -> bool:
    """Whether the process lives and is one of ours: ids are used again."""
    with suppress(OSError):
        status = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return status[0] != "Z" and Path(f"/proc/{pid}/cmdline").read_bytes() == Path("/proc/self/cmdline").read_bytes()
    return False


def ended(sweep: Path, spec: Spec) -> int:
    """Trials that have ended."""
    return sum(trial.state.is_finished() for trial in load(sweep, spec).get_trials(deepcopy=False))


def measure(options: dict[str, Any], root: Path) -> dict[str, Any]:
    """Begin, kill and continue a sweep; return what became of it."""
    rng = random.Random(options["seed"])
    chosen, words, _ = read_command(command(options, root))
    spec, cfg, _ = plan(chosen, words)
    sweep = (Path(cfg.paths.runs) / "sweeps" / spec.name).resolve()
    begin(sweep, spec)
    (sweep / PIDS).touch()
    made = fork_server.run([*words, "hydra.run.dir=" + str(root / "first")], folder=root / "log")  # the world
    if made.code:
        sys.exit(f"error: stage={options['stage']} fails without any kill:\n{made.log[-3000:]}")
    begun, running = time.perf_counter(), []
    for kill in range(options["kills"]):
        workers, due = (
            start_workers(sweep, options["workers"]),
            (kill + 1) * options["trials"] // (options["kills"] + 1),
        )
        while ended(sweep, spec) < due:
            time.sleep(0.2)
        time.sleep(rng.uniform(0.0, LONGEST_DELAY))
        running.append(kill_all(sweep, workers))
        print(
            f"kill {kill + 1}: {ended(sweep, spec)} trials had ended, {running[-1]} trainings were running",
            file=sys.stderr,
        )
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in start_workers(sweep, options["workers"])]
    return check(sweep, spec) | {
        "killed_trainings": running,
        "exit_codes": codes,
        "seconds": time.perf_counter() - begun,
    }


def check(sweep: Path, spec: Spec) -> dict[str, Any]:
    """Count what is lost or doubled."""
    trials = load(sweep, spec).get_trials(deepcopy=False)
    values = Counter(tuple(sorted(trial.params.items())) for trial in trials)
    starts = len((sweep / PIDS).read_text().split())
    folders = [path for path in (sweep / "trials").iterdir() if path.is_dir()]
    return {
        "trials": len(trials), "ended": sum(trial.state.is_finished() for trial in trials),
        "outcomes": dict(Counter(map(outcome, trials))), "lost": spec.trials - sum(t.state.is_finished() for t in trials),
        "doubled": sum(count - 1 for count in values.values()), "folders": len(folders), "trainings_started": starts,
        "steps_doubled": sum(doubled_steps(trial_folder(sweep, trial.number)) for trial in trials),
    }  # fmt: skip


def doubled_steps(folder: Path) -> int:
    """Steps of a trial that metrics.csv holds twice."""
    file = folder / "metrics.csv"
    if not file.is_file():
        return 0
    with file.open(newline="") as opened:
        steps = [
            row["step"] for row in csv.DictReader(opened) if any(v for k, v in row.items() if k.endswith("/train/loss"))
        ]
    return len(steps) - len(set(steps))


def main(arguments: list[str]) -> int:
    options = read_options(arguments, OWN)
    if options["storage"] not in FILES:
        raise ValueError(f"storage={options['storage']}: available are {', '.join(FILES)}")
    os.environ["OMP_NUM_THREADS"] = "1"
    warm()
    with tempfile.TemporaryDirectory(prefix="muomni-sweep-") as temporary:
        found = measure(options, Path(options["root"] or temporary).resolve())
    print(table([{key: str(value) for key, value in found.items()}]))
    write_results(options["out"], {"options": {k: v for k, v in options.items() if k not in ("root", "out")}} | found)
    whole = found["trials"] == found["ended"] == found["folders"] == options["trials"]
    return int(not whole or bool(found["doubled"] or found["steps_doubled"]))


if __name__ == "__main__":
    run_program(main)
