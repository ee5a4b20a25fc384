"""Memory and processor time of a process and its descendants together, as Linux counts them: proportional set sizes, in which
shared pages count once."""

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

INTERVAL = 1.0  # seconds


def family() -> list[int]:
    """This process and all its descendants."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [os.getpid()]
    for each in found:
        found += [process for process, parent in parents.items() if parent == each]
    return found


def proportional_bytes(process: int) -> int:
    """PSS of a process, 0 where it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0


def processor_seconds() -> float:
    """Of the whole family, of those processes that live."""
    ticks = 0
    for process in family():
        with suppress(OSError):
            ticks += sum(map(int, Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


class PeakMemory:
    """Context in which the memory is looked at every second. peak: the most of it, in bytes."""

    def __enter__(self) -> Self:
        self.peak, self._done = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._look()
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL):
            self._look()

    def _look(self) -> None:
        self.peak = max(self.peak, sum(map(proportional_bytes, family())))
