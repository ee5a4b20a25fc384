"""Requests to a scheduler, and what comes of them."""

import queue
import time

import pytest

from muomni.inference.answer import Answer, Piece


class Receiver:
    """What a request emits."""

    def __init__(self) -> None:
        self.items: queue.Queue = queue.Queue()
        self.pieces: list[Piece] = []

    def __call__(self, item) -> None:
        self.items.put(item)

    def wait(self, seconds: float = 60) -> Answer | Exception:
        """The last item."""
        end = time.monotonic() + seconds
        while True:
            item = self.items.get(timeout=end - time.monotonic())
            if not isinstance(item, Piece):
                assert self.items.empty()
                return item
            self.pieces.append(item)


@pytest.fixture
def receive():
    return Receiver
