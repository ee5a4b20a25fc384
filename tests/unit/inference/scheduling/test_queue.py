"""The queue: clients take turns, each in its own order."""

import pytest

from muomni.inference.scheduling.queue import FairQueue


def test_clients_take_turns():
    queue: FairQueue[str] = FairQueue()
    for item in ("a1", "a2", "a3", "b1", "c1", "c2"):
        queue.put(item, client=item[0])
    assert [queue.pop() for _ in range(len(queue))] == ["a1", "b1", "c1", "a2", "c2", "a3"]
    with pytest.raises(IndexError):
        queue.pop()


def test_a_client_that_comes_back_waits_for_the_others():
    queue: FairQueue[str] = FairQueue()
    for item in ("a1", "b1", "b2"):
        queue.put(item, client=item[0])
    assert queue.pop() == "a1"
    queue.put("a2", client="a")
    assert [queue.pop() for _ in range(3)] == ["b1", "a2", "b2"]


def test_items_are_removed_by_a_predicate():
    queue: FairQueue[int] = FairQueue()
    for item in range(6):
        queue.put(item, client=str(item % 2))
    assert sorted(queue.remove(lambda item: item in (1, 3, 4, 5))) == [1, 3, 4, 5]
    assert list(queue) == [0, 2]
    assert len(queue) == 2
