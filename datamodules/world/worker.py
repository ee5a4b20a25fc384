"""Worker processes of the build: each reads jobs as JSON lines, writes files, answers with rows as a JSON line.

Own processes instead of multiprocessing's spawn, which would import the caller's main script (Lightning and all) again
in each; and never forked, because the speech engine is one to a process. What a job makes depends on its arguments
only, so the number of workers changes nothing but the time.
"""

import contextlib
import dataclasses
import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from datamodules.world.files import Row
from datamodules.world.spec import WorldSpec

#: Task of a job -> `module.function(spec, folder, **arguments)` -> rows; imported where it runs: sound needs an extra.
WRITERS = {
    "text": "text.write_text",
    "pictures": "pictures.write_pictures",
    "writing": "writing.write_writing",
    "speech": "speech.write_speech",
    "instructions": "instruction_tests.write_instructions",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A piece of work: WRITERS[task](spec, folder, **arguments)."""

    task: str
    folder: Path
    arguments: dict[str, Any]

    def run(self, spec: WorldSpec) -> list[Row]:
        """Do it in this process."""
        module, _, function = WRITERS[self.task].partition(".")
        write = getattr(importlib.import_module(f"datamodules.world.{module}"), function)
        return write(spec, self.folder, **self.arguments)


class Workers:
    """A pool of worker processes for one world. With `count` 0 the jobs run in this process."""

    def __init__(self, spec: WorldSpec, *, count: int):
        self.spec = spec
        self._local = threading.local()
        self._processes: list[subprocess.Popen[str]] = []
        self._threads = ThreadPoolExecutor(count) if count else None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            for process in self._processes:
                process.kill()
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            with contextlib.suppress(BrokenPipeError):  # a killed worker: only its standard input is left to close
                process.communicate()

    def run(self, jobs: list[Job]) -> Iterator[tuple[Job, list[Row]]]:
        """Run the jobs, yielding each with its rows as it ends. A failed job raises RuntimeError with its reason."""
        if self._threads is None:
            yield from ((job, job.run(self.spec)) for job in jobs)
            return
        futures: dict[Future[list[Row]], Job] = {self._threads.submit(self._send, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()

    def _send(self, job: Job) -> list[Row]:
        process = self._process()
        assert process.stdin is not None, "a worker has its input pipe"
        assert process.stdout is not None, "a worker has its output pipe"
        message = {"spec": dataclasses.asdict(self.spec), "task": job.task, "folder": str(job.folder),
                   "arguments": job.arguments}  # fmt: skip
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"world: a worker ended while it made {job.task} {job.arguments}; see its message above")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"world: {job.task} {job.arguments}: {answer['error']}")
        return answer["rows"]

    def _process(self) -> "subprocess.Popen[str]":
        """This thread's process."""
        if not hasattr(self._local, "process"):
            root = str(Path(__file__).resolve().parents[2])
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
            self._local.process = subprocess.Popen(
                [sys.executable, "-c", "from datamodules.world.worker import main; main()"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            )  # fmt: skip
            self._processes.append(self._local.process)
        return self._local.process


def main() -> None:
    """Serve jobs from standard input until it closes."""
    answers, sys.stdout = sys.stdout, sys.stderr  # nothing but answers may reach the pipe
    for line in sys.stdin:
        message = json.loads(line)
        try:
            spec = WorldSpec(**message["spec"])
            job = Job(task=message["task"], folder=Path(message["folder"]), arguments=message["arguments"])
            answer: dict[str, Any] = {"rows": job.run(spec)}
        except Exception as error:  # handed to the parent, which raises it
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
