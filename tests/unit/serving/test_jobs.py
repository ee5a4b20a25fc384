"""Blocking work: few at once, a turn for each client, and slots that are free when their threads are."""

import asyncio
import threading

import pytest

from muomni.inference.errors import QueueFull
from muomni.serving.jobs import Jobs


def jobs(slots=2, *, seconds=10.0, max_waiting=9):
    return Jobs(slots, max_waiting=max_waiting, seconds=seconds)


async def settled():
    await asyncio.sleep(0.05)


def test_a_client_that_goes_keeps_its_slot_until_its_thread_has_ended():
    running, go = threading.Event(), threading.Event()

    async def main():
        work = jobs(1)
        first = asyncio.create_task(work.run(lambda: (running.set(), go.wait(10)), client="a"))
        await asyncio.to_thread(running.wait, 10)
        first.cancel()
        second = asyncio.create_task(work.run(lambda: "second", client="b"))
        await settled()
        assert not first.done()
        assert not second.done()
        go.set()
        assert await second == "second"
        assert first.cancelled()

    asyncio.run(main())


def test_clients_take_turns_and_those_that_go_leave_the_queue():
    go, order = threading.Event(), []

    async def main():
        work = jobs(1)
        tasks = [asyncio.create_task(work.run(go.wait, 10, client="a"))]
        for client, name in (("a", "a1"), ("a", "a2"), ("b", "gone"), ("b", "b1")):
            await settled()
            tasks.append(asyncio.create_task(work.run(order.append, name, client=client)))
        await settled()
        tasks[3].cancel()
        await settled()
        assert work.waiting == 3
        go.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (work.waiting, work._all.free) == (0, 1)

    asyncio.run(main())
    assert order == ["a1", "b1", "a2"]


def test_long_work_leaves_a_slot_for_short_work():
    go = threading.Event()

    async def main():
        work = jobs(2)
        long = [asyncio.create_task(work.run(go.wait, 10, client=str(i), long=True)) for i in range(3)]
        await settled()
        assert await asyncio.wait_for(work.run(lambda: "short", client="b"), 5) == "short"
        go.set()
        await asyncio.gather(*long)

    asyncio.run(main())


def test_the_wait_is_bounded_in_time_and_number():
    go = threading.Event()

    async def main():
        work = jobs(1, seconds=0.1, max_waiting=1)
        first = asyncio.create_task(work.run(go.wait, 10, client="a"))
        await settled()
        second = asyncio.create_task(work.run(go.wait, 10, client="a"))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await work.run(go.wait, 10, client="b")
        with pytest.raises(TimeoutError):
            await second
        go.set()
        await first

    asyncio.run(main())


def test_work_that_is_left_to_itself_holds_its_slot():
    go = threading.Event()

    async def main():
        work = jobs(1)
        await work.start(lambda: go.wait(10), client="a")
        second = asyncio.create_task(work.run(lambda: "second", client="b"))
        await settled()
        assert not second.done()
        go.set()
        assert await second == "second"

    asyncio.run(main())
