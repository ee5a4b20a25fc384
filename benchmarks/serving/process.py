"""A server in a process of its own, and what Linux counts of a process: memory, processor time, threads, sockets."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 900.0  # within which a server must answer; the first one of a shape compiles its steps
MIB = 2**20


class Process:
    """A running process by its id; its counters are read from /proc."""

    def __init__(self, pid: int) -> None:
        self.pid, self.folder = pid, Path(f"/proc/{pid}")

    def memory(self) -> float:
        """Resident memory, MiB."""
        pages = int((self.folder / "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / MIB

    def cpu_seconds(self) -> float:
        """Processor time of all threads so far."""
        return time.clock_gettime((~self.pid << 3) | 2)  # clock_getcpuclockid of glibc, which Python lacks

    def threads(self) -> int:
        """Threads now."""
        return len(list((self.folder / "task").iterdir()))

    def sockets(self) -> int:
        """Open sockets now, that which listens among them."""
        count = 0
        for each in (self.folder / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                count += os.readlink(each).startswith("socket:")
        return count


class ServerProcess:
    """`python serve.py ckpt=CKPT` on a free port, until `stop`. As a context manager it stops at the end.

    Args:
        settings: further `KEY=VALUE` words. cores: the processor cores that it may use; None: all of this process.
    """

    def __init__(self, ckpt: str, *settings: str, cores: Sequence[int] | None = None) -> None:
        given = {word.partition("=")[0] for word in settings}
        words = [word for word in ("port=0", "page=false") if word.partition("=")[0] not in given]
        words = [f"ckpt={Path(ckpt).resolve()}", *words, *settings]
        self.log: IO[str] = tempfile.NamedTemporaryFile("w+", prefix="serve-", suffix=".log")  # noqa: SIM115 - until `stop`
        command = [sys.executable, str(ROOT / "serve.py"), *words]
        before, begun = os.sched_getaffinity(0), time.monotonic()
        os.sched_setaffinity(0, before if cores is None else cores)  # a child inherits it
        try:
            self.popen = subprocess.Popen(command, cwd=ROOT, stdout=self.log, stderr=self.log)
        finally:
            os.sched_setaffinity(0, before)
        self.process = Process(self.popen.pid)
        try:
            self.url = self._address()
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - begun  # from the command until it answers

    def _address(self) -> str:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.popen.poll() is None:
            for line in self.written().splitlines():
                if ", ready after " in line:
                    return line.partition(": ")[2].partition("/v1,")[0]
            time.sleep(0.05)
        raise ValueError(f"the server did not start (exit code {self.popen.poll()}): {self.written()[-1000:]}")

    def written(self) -> str:
        """Its log."""
        return Path(self.log.name).read_text()

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, by force after half a minute."""
        self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
        self.log.close()

    def kill(self) -> None:
        """As the kernel does when memory runs out: at once."""
        self.popen.kill()
        self.popen.wait()


def metrics(url: str) -> dict[str, float]:
    """/metrics of a server: name -> value, all labels added up."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name] = values.get(sample.name, 0.0) + sample.value
    return values
