"""Training runs as forks of a process that has imported everything once: a kill and a fresh start cost a second, not ten.

A fork is as good as a new process as long as nothing of torch has run yet: no thread pool, no random number drawn, no file
open. It runs the command line of `train.py`, in a session of its own, and tells its parent where it is by `Moments`, a callback
that writes a line to a pipe at each turn; so it can be killed, with all its loader workers, at a moment of choice.
"""

import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning import Callback

import train
from muomni.command_line import run_main

ROOT = Path(train.__file__).resolve().parent


@dataclass
class Run:
    """A run that has ended: exit code (-9: killed), standard error, and when it passed which moment, in seconds."""

    code: int
    seconds: float
    moments: list[tuple[str, float]] = field(default_factory=list)
    log: str = ""


class Moments(Callback):
    """Says on a file descriptor what begins now, and keeps in a file which samples each batch held."""

    def __init__(self, descriptor: int, samples: str) -> None:
        self.descriptor = descriptor
        self.samples = os.open(samples, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def _say(self, moment: str) -> None:
        os.write(self.descriptor, f"{moment}\n".encode())

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._say("train")

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._say(f"step {trainer.fit_loop.total_batch_idx}")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        line = f"{trainer.fit_loop.total_batch_idx} {' '.join(batch.sample_ids)}\n"
        os.write(self.samples, line.encode())

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._say(f"save {trainer.global_step}")

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._say(f"validate {trainer.global_step}")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._say(f"validated {trainer.global_step}")

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self._say("export")

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        self._say("test")

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        self._say("end")


@dataclass(frozen=True)
class Kill:
    """SIGKILL, `delay` seconds after `moment` began."""

    moment: str
    delay: float


def launch(arguments: Sequence[str], *, folder: Path, environment: dict[str, str] | None = None, kill: Kill | None = None,
           limit: float = 300.0) -> Run:  # fmt: skip
    """Run `train.py` with these arguments in a fork, to its end or to the kill.

    folder: for the standard error (log.txt) and the sample ids (samples.txt, appended to) of the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    moments = (
        f"+callbacks.moments={{_target_:benchmarks.zygote.Moments,descriptor:{writer},samples:{folder}/samples.txt}}"
    )
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _run([*arguments, moments], folder / "log.txt", environment or {})
    os.close(writer)
    run = Run(code=0, seconds=0.0)
    try:
        _watch(child, reader, run, start, kill, limit)
    finally:
        os.close(reader)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # loader workers, where there are any left
    run.log = (folder / "log.txt").read_text(errors="replace") if (folder / "log.txt").exists() else ""
    return run


def _run(arguments: list[str], log: Path, environment: dict[str, str]) -> None:
    """The child's life; never returns."""
    code = 1
    try:
        os.setsid()
        os.chdir(ROOT)
        os.environ.update(environment)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.argv = [str(ROOT / "train.py"), *arguments]
        run_main(train.main, config="train")
        code = 0
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _watch(child: int, reader: int, run: Run, start: float, kill: Kill | None, limit: float) -> None:
    """Read moments until the child ends or is due to be killed."""
    due = start + kill.delay if kill is not None and kill.moment == "start" else None
    buffer = b""
    while True:
        now = time.perf_counter()
        if due is not None and now >= due:
            os.kill(child, signal.SIGKILL)
            due = None
        wait = min(limit, 5.0) if due is None else due - now
        ready, _, _ = select.select([reader], [], [], max(0.0, wait))
        chunk = os.read(reader, 65536) if ready else b""
        for line in (buffer + chunk).split(b"\n")[:-1]:
            moment = line.decode()
            run.moments.append((moment, time.perf_counter() - start))
            if kill is not None and moment == kill.moment and due is None:
                due = time.perf_counter() + kill.delay
        buffer = (buffer + chunk).rsplit(b"\n", 1)[-1]
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            run.code, run.seconds = os.waitstatus_to_exitcode(status), time.perf_counter() - start
            return
        if ready and not chunk:  # closed: it is about to end
            time.sleep(0.002)
        if time.perf_counter() - start > limit:
            os.kill(child, signal.SIGKILL)
