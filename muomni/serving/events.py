"""Results of the schedulers' threads in asyncio."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from typing import Any, Protocol


class Ticket(Protocol):
    """A submitted piece of work."""

    def cancel(self) -> None:
        """End it as soon as possible; it may have ended already."""
        ...


class Events:
    """Async iterator over what a scheduler emits for one request. Ends after `final`, raises an emitted exception.

    The scheduler's thread never waits for the client: what it has emitted is kept here, at most one answer long.

    deadline: of the event loop's clock; later, TimeoutError is raised. Only the wait for an event is timed: a limit around the
    whole iteration would cancel whichever task reads at that moment, in the middle of something else.
    """

    def __init__(self, *, final: type, deadline: float) -> None:
        self.final, self.deadline = final, deadline
        self._loop, self._queue = asyncio.get_running_loop(), asyncio.Queue[Any]()
        self.ticket: Ticket | None = None
        self.cancelled = False
        self.last: Any = None  # the final event, once it has come

    def emit(self, event: Any) -> None:
        """Called from the scheduler's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, event)

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
                    event = await self._queue.get()
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, self.final):
                    self.last = event
                    yield event
                    return
                yield event
        finally:
            self.cancel()


async def merged(sources: Sequence[AsyncIterable[Any]]) -> AsyncGenerator[tuple[int, Any]]:
    """(index of the source, item) of all sources as they come. Ends with the last of them, or with the first exception."""
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
