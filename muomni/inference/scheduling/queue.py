"""Requests that wait: as many as there is space for, and a turn for each client, whoever sends more."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """First in, first out for each client; the clients take turns. Not thread-safe."""

    def __init__(self) -> None:
        self.clients: OrderedDict[str, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self.clients.values()))

    def __iter__(self) -> Iterator[T]:
        return (item for waiting in self.clients.values() for item in waiting)

    def put(self, item: T, *, client: str) -> None:
        """Append an item of a client."""
        self.clients.setdefault(client, deque()).append(item)

    def pop(self) -> T:
        """The first item of the client whose turn it is. Raises IndexError if nothing waits."""
        if not self.clients:
            raise IndexError("pop from an empty queue")
        client, waiting = next(iter(self.clients.items()))
        item = waiting.popleft()
        del self.clients[client]
        if waiting:
            self.clients[client] = waiting  # its next turn is after those of the others
        return item

    def remove(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Remove the items that a predicate is true for, and return them."""
        removed = [item for item in self if unwanted(item)]
        kept = {
            client: deque(item for item in waiting if not unwanted(item)) for client, waiting in self.clients.items()
        }
        self.clients = OrderedDict((client, waiting) for client, waiting in kept.items() if waiting)
        return removed
