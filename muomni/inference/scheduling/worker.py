"""A thread with a bounded, fair queue: what the schedulers of Thinker and Talker have in common.

Requests are queued from any thread; `_run`, the loop of the subclass, takes them in its own thread, drops the cancelled ones, and
ends when it is closed.
"""

import threading
from typing import Generic, TypeVar

from muomni.inference.errors import Cancelled, InvalidOption, QueueFull
from muomni.inference.scheduling.queue import FairQueue
from muomni.short_repr import shown

Request = TypeVar("Request")
MIN_RETRY, SMOOTHING = 1.0, 0.1  # seconds; weight of the last request in the mean duration


class Worker(Generic[Request]):
    """noun: what is queued, for messages. slots: requests that are computed together. max_queue: requests that wait for one."""

    def __init__(self, noun: str, *, slots: int, max_queue: int) -> None:
        check_counts(slots=slots, max_queue=max_queue)
        self.noun, self.num_slots, self.max_queue = noun, slots, max_queue
        self.mean_seconds = 0.0  # of a request
        self._changed = threading.Condition()  # guards what follows
        self._queue: FairQueue[Request] = FairQueue()
        self._has_cancelled = self._closing = self._aborting = False
        self._thread = threading.Thread(target=self._run, name=f"muomni-{noun}", daemon=True)

    def _run(self) -> None:
        """The thread: returns when it is closed and has nothing left."""

    def close(self, *, grace: float) -> None:
        """Take no more requests, wait up to `grace` seconds for those submitted, then cancel the rest."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(min(max(grace, 0.0), threading.TIMEOUT_MAX))
        with self._changed:
            self._aborting = True
            self._changed.notify()
        self._thread.join()

    def _check_room(self, waiting: int) -> None:
        """Raise Cancelled after `close`, and QueueFull if so many wait that there is no room. The lock must be held."""
        self._check_open()
        if waiting >= self.max_queue:
            retry = max(MIN_RETRY, self.mean_seconds * (waiting + 1) / self.num_slots)
            raise QueueFull(f"{waiting} {self.noun} are waiting: try again in {retry:.0f} s", retry_after=retry)

    def _check_open(self) -> None:
        if self._closing:
            raise Cancelled(f"the scheduler is closed: no more {self.noun} are taken")

    def _put(self, request: Request, *, client: str) -> None:
        """Queue a request. The lock must be held."""
        self._queue.put(request, client=client)
        self._changed.notify()

    def _wake(self) -> None:
        """A request was cancelled."""
        with self._changed:
            self._has_cancelled = True
            self._changed.notify()

    def _note_seconds(self, seconds: float) -> None:
        """A request has taken so long."""
        self.mean_seconds += (seconds - self.mean_seconds) * (SMOOTHING if self.mean_seconds else 1.0)


def check_counts(**counts: int) -> None:
    """Raise InvalidOption naming a value that is no whole number above 0."""
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InvalidOption(f"{name}={shown(value)}: a whole number, at least 1, is needed", param=name)
