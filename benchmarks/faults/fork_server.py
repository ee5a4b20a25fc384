"""Training runs as forks of a process that has imported everything once: a kill and a fresh start cost seconds, not minutes.

A fork is as good as a new process as long as nothing of torch has run yet: no thread pool, no random number drawn, no file
open. It runs the command line of `train.py`, in a process group of its own, and reports its phase to its parent by `Moments`, a
callback that writes a line to a pipe at each change; so it can be killed, with all its loader workers, at a chosen moment.
"""

import functools
import os
import select
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from lightning import Callback

import train
from benchmarks.faults.child import become
from muomni.cli.errors import one_line_errors
from muomni.distributed import rendezvous

ROOT = Path(train.__file__).resolve().parent


@dataclass
class Run:
    """A run that has ended: exit code (-9: killed), seconds, standard error, and when it passed which moment."""

    code: int = 0
    seconds: float = 0.0
    log: str = ""
    moments: list[tuple[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Kill:
    """SIGKILL, `delay` seconds after `moment` began ("start": the run itself)."""

    moment: str
    delay: float


class Moments(Callback):
    """Writes each phase to a file descriptor, and the sample ids of each batch to a file."""

    def __init__(self, descriptor: int, samples: str) -> None:
        self.descriptor = descriptor
        self.samples = os.open(f"{samples}.{rendezvous.rank()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def _say(self, trainer: Any, *_: Any, moment: str) -> None:
        if rendezvous.rank() == 0:
            step, batch = trainer.global_step, trainer.fit_loop.total_batch_idx
            os.write(self.descriptor, f"{moment.format(step=step, batch=batch)}\n".encode())

    on_train_start = functools.partialmethod(_say, moment="train")
    on_train_batch_start = functools.partialmethod(_say, moment="step {batch}")
    on_save_checkpoint = functools.partialmethod(_say, moment="save {step}")
    on_validation_start = functools.partialmethod(_say, moment="validation {step}")
    on_fit_end = functools.partialmethod(_say, moment="export")
    on_test_start = functools.partialmethod(_say, moment="test")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        line = f"{trainer.fit_loop.total_batch_idx} {' '.join(batch.sample_ids)}\n"
        os.write(self.samples, line.encode())


def run(
    arguments: Sequence[str], *, folder: Path, kill: Kill | None = None, ranks: int = 1, limit: float = 600.0
) -> Run:
    """Run `train.py` with these arguments in a fork for each rank, to the end or to the kill.

    folder: for the standard error (log.0, ..) and the sample ids (samples.0, .., appended to) of the ranks.
    Raises TimeoutError after `limit` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    target = "benchmarks.faults.fork_server.Moments"
    moments = f"+callbacks.moments={{_target_:{target},descriptor:{writer},samples:{folder}/samples}}"
    port = _free_port() if ranks > 1 else 0
    start = time.perf_counter()
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            os.close(reader)
            _train([*arguments, moments], folder / f"log.{rank}", _as_rank(rank, ranks, port))
        children.append(child)
    os.close(writer)
    ended = Run()
    try:
        _watch(children, reader, ended, start, kill, limit)
    finally:
        os.close(reader)
        for child in children:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # loader workers, where there are any left
    log = folder / "log.0"  # a run that is killed as it starts has none
    ended.log = log.read_text(errors="replace") if log.exists() else ""
    return ended


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _as_rank(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What torchrun tells a process."""
    if ranks == 1:
        return {}
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks),
        "GROUP_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": str(port),
    }  # fmt: skip


def _train(words: list[str], log: Path, environment: dict[str, str]) -> NoReturn:
    """The child: `python train.py WORDS`."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def program() -> None:
        rendezvous.join()
        with one_line_errors():
            train.main()
        rendezvous.leave()

    become(
        program, [str(ROOT / "train.py"), *words], folder=ROOT, environment={**os.environ, **environment},
        descriptors={1: descriptor, 2: descriptor},
    )  # fmt: skip


def _watch(children: list[int], reader: int, ended: Run, start: float, kill: Kill | None, limit: float) -> None:
    """Read moments until all ranks have ended, or are due to be killed."""
    due = start + kill.delay if kill is not None and kill.moment == "start" else None
    alive, buffer = set(children), b""
    while alive:
        now = time.perf_counter()
        if due is not None and now >= due:
            _kill(alive)
            due = None
        ready, _, _ = select.select([reader], [], [], 0.05 if due is None else max(0.0, min(0.05, due - now)))
        chunk = os.read(reader, 65536) if ready else b""
        *lines, buffer = (buffer + chunk).split(b"\n")
        for moment in map(bytes.decode, lines):
            ended.moments.append((moment, time.perf_counter() - start))
            if kill is not None and moment == kill.moment and due is None:
                due = time.perf_counter() + kill.delay
        for child in sorted(alive):
            gone, status = os.waitpid(child, os.WNOHANG)
            if gone:
                alive.remove(child)
                ended.code = ended.code or os.waitstatus_to_exitcode(status)
                if ended.code:
                    _kill(alive)  # as torchrun does when one of its processes fails
        if ready and not chunk:
            time.sleep(0.005)  # the pipe is closed: they are about to end
        if time.perf_counter() - start > limit:
            _kill(alive)
            raise TimeoutError(f"a run of more than {limit:g} s; the last moment was {ended.moments[-1:]}")
    ended.seconds = time.perf_counter() - start


def _kill(children: set[int]) -> None:
    for child in children:
        os.kill(child, signal.SIGKILL)
