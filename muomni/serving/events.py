"""Results of the schedulers' threads in asyncio."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from typing import Any, Protocol

from muomni.inference.answer import Piece

PAUSE = 0.02  # seconds: more pieces of an answer in a second are of use to no one


class Ticket(Protocol):
    """A submitted piece of work."""

    def cancel(self) -> None:
        """End it as soon as possible; it may have ended already."""
        ...


class Events:
    """Async iterator over what a scheduler emits for one request. Ends after `final`, raises an emitted exception.

    The scheduler's thread never waits for the client: what it has emitted is kept here, at most one answer long. Nor does it wake
    the event loop for every token, which would cost it a tenth of its time, since both need Python's lock: the first event, the
    last one, and one that comes `PAUSE` after those before it are delivered at once; others within `PAUSE`, together, pieces of
    text joined. whole: only the last event is needed.

    deadline: of the event loop's clock; later, TimeoutError is raised. Only the wait for an event is timed: a limit around the
    whole iteration would cancel whichever task reads at that moment, in the middle of something else.
    """

    def __init__(self, *, final: type, deadline: float, whole: bool = False) -> None:
        self.final, self.deadline, self.whole = final, deadline, whole
        self.ticket: Ticket | None = None
        self.cancelled = False
        self.first = 0.0  # when the first event was emitted, by `time.monotonic`
        self.last: Any = None  # the final event, once it has come
        self._loop, self._ready = asyncio.get_running_loop(), asyncio.Event()
        self._emitted: deque[Any] = deque()
        self._is_due = False  # the loop will look: it has been woken, or its timer runs
        self._timer: asyncio.TimerHandle | None = None

    def emit(self, event: Any) -> None:
        """Called from the scheduler's thread."""
        self.first = self.first or time.monotonic()
        is_last = isinstance(event, self.final | BaseException)
        if self.whole and not is_last:
            return
        self._emitted.append(event)
        if (is_last or not self._is_due) and not self._loop.is_closed():
            self._is_due = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._ready.set()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(PAUSE, self._look)

    def _look(self) -> None:
        self._is_due = False  # before looking: what is emitted from here on wakes the loop
        if self._emitted:
            self._is_due = True
            self._deliver()

    def attach(self, ticket: Ticket) -> None:
        """What emits these events. From any thread; it is ended at once if nobody needs it any more."""
        self.ticket = ticket
        if self.cancelled:
            ticket.cancel()

    def cancel(self) -> None:
        """The client needs no more of it."""
        self.cancelled = True
        if self.ticket is not None:
            self.ticket.cancel()

    async def __aiter__(self) -> AsyncGenerator[Any]:
        try:
            while True:
                async with asyncio.timeout_at(self.deadline):
                    await self._ready.wait()
                self._ready.clear()
                for event in self._taken():
                    if isinstance(event, BaseException):
                        raise event
                    if isinstance(event, self.final):
                        self.last = event
                        yield event
                        return
                    yield event
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self.cancel()

    def _taken(self) -> list[Any]:
        """What has been emitted since; pieces that follow each other are one."""
        taken: list[Any] = []
        while self._emitted:
            event = self._emitted.popleft()
            if taken and isinstance(event, Piece) and isinstance(taken[-1], Piece):
                taken[-1] = Piece(taken[-1].text + event.text, [*taken[-1].tokens, *event.tokens])
            else:
                taken.append(event)
        return taken


async def merged(sources: Sequence[AsyncIterable[Any]]) -> AsyncGenerator[tuple[int, Any]]:
    """(index of the source, item) of all sources as they come. Ends with the last of them, or with the first exception."""
    if len(sources) == 1:  # without a task and a queue for every item
        items = aiter(sources[0])
        try:
            async for item in items:
                yield 0, item
        finally:
            if isinstance(items, AsyncGenerator):
                await items.aclose()
        return
    queue: asyncio.Queue[tuple[int, Any, BaseException | None, bool]] = asyncio.Queue()

    async def forward(index: int, source: AsyncIterable[Any]) -> None:
        try:
            async for item in source:
                queue.put_nowait((index, item, None, False))
            queue.put_nowait((index, None, None, True))
        except Exception as error:
            queue.put_nowait((index, None, error, True))

    tasks = [asyncio.create_task(forward(index, source)) for index, source in enumerate(sources)]
    running = len(tasks)
    try:
        while running:
            index, item, error, ended = await queue.get()
            if error is not None:
                raise error
            running -= ended
            if not ended:
                yield index, item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
