"""Worker processes of the build: each reads jobs as JSON lines, writes files, answers with rows as a JSON line.

Not concurrent.futures' processes: spawned ones import the caller's main script (Lightning and all) again in each, forked
ones share one speech engine, and both outlive a caller that is killed, where these end with their standard input. What a
job makes depends on its arguments only, so the number of workers changes nothing but the time.
"""

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from datamodules.world.files import Row
from datamodules.world.spec import WorldSpec

ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A call of `datamodules.world.<module>.write(spec, folder, **arguments)`, which returns rows."""

    module: str
    folder: Path
    arguments: dict[str, Any]

    def run(self, spec: WorldSpec) -> list[Row]:
        """Call it in this process. The module is imported here: speech needs an extra."""
        module = importlib.import_module(f"datamodules.world.{self.module}")
        return module.write(spec, Path(self.folder), **self.arguments)


@contextmanager
def worker_pool(spec: WorldSpec, *, count: int) -> Iterator[Callable[[Iterable[Job]], Iterator[list[Row]]]]:
    """Yields a function that runs jobs in `count` processes (0: in this one) and yields the rows of each, in order.

    A failed job raises RuntimeError with its reason.
    """
    if count == 0:
        yield lambda jobs: (job.run(spec) for job in jobs)
        return
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", "from datamodules.world.worker import main; main()"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    processes = [subprocess.Popen(command, **pipes) for _ in range(count)]
    idle: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
    for process in processes:
        idle.put(process)
    threads = ThreadPoolExecutor(count)
    try:
        yield partial(threads.map, partial(_send, spec, idle))
    except BaseException:
        for process in processes:
            process.kill()
        raise
    finally:
        threads.shutdown(cancel_futures=True)
        for process in processes:
            with suppress(BrokenPipeError):  # a killed worker: only its standard input is left to close
                process.communicate()


def _send(spec: WorldSpec, idle: "SimpleQueue[subprocess.Popen[str]]", job: Job) -> list[Row]:
    """The rows of a job, run by an idle process."""
    process = idle.get()
    assert process.stdin is not None, "a worker has its input pipe"
    assert process.stdout is not None, "a worker has its output pipe"
    try:
        with suppress(BrokenPipeError):  # of a worker that has ended: it has no answer
            process.stdin.write(json.dumps({"spec": dataclasses.asdict(spec), **vars(job)}, default=str) + "\n")
            process.stdin.flush()
        line = process.stdout.readline()
    finally:
        idle.put(process)  # also one that has ended: whoever waits for a process must not wait forever
    if not line:
        raise RuntimeError(f"world: a worker ended during {job.module} {job.arguments}; see its message above")
    answer = json.loads(line)
    if "error" in answer:
        raise RuntimeError(f"world: {job.module} {job.arguments}: {answer['error']}")
    return answer["rows"]


def main() -> None:
    """Serve jobs from standard input until it closes."""
    answers, sys.stdout = sys.stdout, sys.stderr  # nothing but answers may reach the pipe
    for line in sys.stdin:
        message = json.loads(line)
        try:
            spec = WorldSpec(**message.pop("spec"))
            answer: dict[str, Any] = {"rows": Job(**message).run(spec)}
        except Exception as error:  # handed to the parent, which raises it
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
