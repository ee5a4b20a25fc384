"""Work of many rows by all cores: processes, in order, with a bounded number of rows under way.

A file may crash its decoder. Then the process that died takes down the pool; the rows under way are done again in processes of
their own, and the one that crashes is named.
"""

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Generic, TypeVar

from datamodules.check.inspection import Outcome, Work, begin, inspect_all
from muomni.frontends.tokenizer import Tokenizer

CHUNK = 16  # rows that are handed over at a time
AHEAD = 4  # chunks of each process that wait
FEW = 4 * CHUNK  # rows below which a second process does not pay

Item = TypeVar("Item")


class Workers(Generic[Item]):
    """Args: processes: at most. tokenizer, image_tokens: of the tokens that are counted."""

    def __init__(self, *, processes: int, tokenizer: Tokenizer | None, image_tokens: int) -> None:
        self.processes, self.arguments = processes, (tokenizer, image_tokens)

    def run(self, items: Iterable[tuple[Item, Work]]) -> Iterator[tuple[Item, Outcome]]:
        """Each item with the outcome of its work, in order."""
        items = iter(items)
        first = list(islice(items, FEW))
        begin(*self.arguments)
        if self.processes < 2 or len(first) < FEW:
            for chunk in _chunks(_joined(first, items)):
                yield from zip((item for item, _ in chunk), inspect_all([work for _, work in chunk]), strict=True)
            return
        yield from self._by_processes(_chunks(_joined(first, items)))

    def _by_processes(self, chunks: Iterator[list[tuple[Item, Work]]]) -> Iterator[tuple[Item, Outcome]]:
        pool = self._pool(self.processes)
        waiting: deque[tuple[list[tuple[Item, Work]], Future[list[Outcome]]]] = deque()
        try:
            while True:
                while len(waiting) < AHEAD * self.processes and (chunk := next(chunks, None)):
                    waiting.append((chunk, pool.submit(inspect_all, [work for _, work in chunk])))
                if not waiting:
                    break
                chunk, future = waiting.popleft()
                try:
                    outcomes = future.result()
                except BrokenProcessPool:
                    again = [chunk, *(each for each, _ in waiting)]
                    waiting.clear()
                    for each in again:
                        yield from self._again(each)
                    pool = self._pool(self.processes)
                    continue
                yield from zip((item for item, _ in chunk), outcomes, strict=True)
            pool.shutdown()
        finally:  # also where the reader stops, or Ctrl-C: nothing is left running
            pool.shutdown(wait=False, cancel_futures=True)

    def _again(self, chunk: list[tuple[Item, Work]]) -> Iterator[tuple[Item, Outcome]]:
        """A chunk by a process of its own; where that dies, each row by one."""
        pool = self._pool(1)
        try:
            outcomes = pool.submit(inspect_all, [work for _, work in chunk]).result()
        except BrokenProcessPool:
            if len(chunk) > 1:
                for each in chunk:
                    yield from self._again([each])
                return
            outcomes = [_crashed(chunk[0][1])]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        yield from zip((item for item, _ in chunk), outcomes, strict=True)

    def _pool(self, processes: int) -> ProcessPoolExecutor:
        fork = "fork" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("fork" if fork else None)
        return ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=self.arguments)


def _crashed(work: Work) -> Outcome:
    media = (*work.images, *work.audios)
    return Outcome([f"{each}: its decoder crashes: the file is damaged" for each in media], [0] * len(work.images), [])


def _begin(tokenizer: Tokenizer | None, image_tokens: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process stops the others
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    begin(tokenizer, image_tokens)


def _joined(first: list[tuple[Item, Work]], rest: Iterator[tuple[Item, Work]]) -> Iterator[tuple[Item, Work]]:
    yield from first
    yield from rest


def _chunks(items: Iterator[tuple[Item, Work]]) -> Iterator[list[tuple[Item, Work]]]:
    while chunk := list(islice(items, CHUNK)):
        yield chunk
