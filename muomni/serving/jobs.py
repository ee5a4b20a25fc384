"""Blocking work in threads: media that are decoded, embeddings, transcripts. Few at once, and a turn for each client.

A thread cannot be stopped: whoever has gone keeps the slot until the work has ended, so that clients that break off and come
again do not pile up threads. Long work leaves a slot for short work, where there are two: a question with an image does not wait
for recordings of ten minutes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import anyio
from starlette.concurrency import run_in_threadpool

from muomni.inference.errors import QueueFull
from muomni.inference.scheduling.queue import FairQueue

RETRY_SECONDS = 5.0
T = TypeVar("T")


class FairSlots:
    """A semaphore whose clients take turns. Used by one event loop."""

    def __init__(self, count: int) -> None:
        self.free = count
        self.waiting: FairQueue[asyncio.Future[None]] = FairQueue()

    @asynccontextmanager
    async def slot(self, client: str) -> AsyncIterator[None]:
        """Holds a slot."""
        await self._acquire(client)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, client: str) -> None:
        if self.free:
            self.free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self.waiting.put(turn, client=client)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self.waiting.remove(lambda each: each is turn)
            else:  # it was given in the same moment
                self._release()
            raise

    def _release(self) -> None:
        while len(self.waiting):
            turn = self.waiting.pop()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1


class Jobs:
    """slots: work at once. max_waiting: beyond, QueueFull is raised. seconds: the longest wait."""

    def __init__(self, slots: int, *, max_waiting: int, seconds: float) -> None:
        self.max_waiting, self.seconds = max_waiting, seconds
        self.waiting = 0
        self._all, self._long = FairSlots(slots), FairSlots(max(1, slots - 1))
        self._background: set[asyncio.Task[Any]] = set()

    async def run(self, function: Callable[..., T], *args: Any, client: str, long: bool = False, **options: Any) -> T:
        """The result of a function. Raises QueueFull if too many wait, TimeoutError after `seconds` of waiting."""
        async with self._slot(client, long=long):
            return await in_thread(function, *args, **options)

    async def start(self, function: Callable[[], None], *, client: str) -> None:
        """Wait for a turn, then leave a long work to itself: `function` raises nothing. Errors as of `run`."""
        held = AsyncExitStack()
        await held.enter_async_context(self._slot(client, long=True))

        async def rest() -> None:
            async with held:
                await in_thread(function)

        task = asyncio.create_task(rest())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    @asynccontextmanager
    async def _slot(self, client: str, *, long: bool) -> AsyncIterator[None]:
        if self.waiting >= self.max_waiting:
            raise QueueFull("too many requests wait for this server", retry_after=RETRY_SECONDS)
        async with AsyncExitStack() as held:
            self.waiting += 1
            try:
                async with asyncio.timeout(self.seconds):
                    for slots in (self._long, self._all) if long else (self._all,):
                        await held.enter_async_context(slots.slot(client))
            finally:
                self.waiting -= 1
            yield


async def in_thread(function: Callable[..., T], *args: Any, **options: Any) -> T:
    """The result of a function. A cancellation waits for its end, and is raised then."""
    return await _to_the_end(run_in_threadpool(function, *args, **options))


async def _to_the_end(work: Awaitable[T]) -> T:
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            await asyncio.wait({task})
        raise
