"""A number of each of millions of rows on the disk, by all cores: processes, since reading a row holds Python's lock."""

import multiprocessing
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from muomni.cores import available_cores

if TYPE_CHECKING:
    from datamodules.lazy_rows import LazyRows

CHUNK = 256  # rows that are handed over at a time
AHEAD = 4  # chunks of each process that wait
FEW = 16 * CHUNK  # rows below which a second process does not pay

#: Of this process: the rows, and what is computed of each.
_work: tuple["LazyRows", Callable[[Any], Any]] | None = None


def fill(values: np.ndarray, rows: "LazyRows", function: Callable[[Any], Any], *, title: str) -> None:
    """Write `function` of every row of the source (N) into `values` (N), with a progress bar.

    What `function` raises is raised here. Raises ValueError where a process dies at a row, as a decoder does of a damaged file.
    """
    processes = available_cores() if "fork" in multiprocessing.get_all_start_methods() else 1
    numbers = iter(range(0, len(values), CHUNK))
    with tqdm(total=len(values), desc=title, unit="row", mininterval=1) as bar:
        if processes < 2 or len(values) < FEW:
            for start in numbers:
                values[start : start + CHUNK] = [
                    function(rows.read(row)) for row in range(start, min(start + CHUNK, len(values)))
                ]
                bar.update(min(CHUNK, len(values) - start))
            return
        context = multiprocessing.get_context("fork")  # so that `function` need not be picklable
        with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(rows, function)) as pool:
            try:
                for start, found in _in_order(pool, numbers, stop=len(values), ahead=AHEAD * processes):
                    values[start : start + len(found)] = found
                    bar.update(len(found))
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, starts: Iterator[int], *, stop: int, ahead: int
) -> Iterator[tuple[int, list[Any]]]:
    waiting: deque[tuple[int, Future[list[Any]]]] = deque()
    while True:
        for start in islice(starts, ahead - len(waiting)):
            waiting.append((start, pool.submit(_of_rows, start, min(start + CHUNK, stop))))
        if not waiting:
            return
        start, future = waiting.popleft()
        try:
            yield start, future.result()
        except BrokenProcessPool:
            raise ValueError(
                f"a process ended while it read one of the rows from {start} on: a damaged file, or no memory is left; "
                "`python -m datamodules.check data=...` names the file"
            ) from None


def _begin(rows: "LazyRows", function: Callable[[Any], Any]) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process stops the others
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _work = pickle.loads(pickle.dumps(rows)), function  # a file that is open is read at one place by all processes


def _of_rows(start: int, stop: int) -> list[Any]:
    assert _work is not None
    rows, function = _work
    return [function(rows.read(row)) for row in range(start, stop)]
