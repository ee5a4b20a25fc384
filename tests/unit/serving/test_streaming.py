"""Events of a scheduler, and answers that are sent while they are made: whoever goes, and whenever, nothing is left."""

import asyncio

import pytest

from muomni.serving.events import Events
from muomni.serving.sse import Streamed


class Ticket:
    cancelled = False

    def cancel(self):
        self.cancelled = True


def test_a_ticket_that_comes_after_the_client_has_gone_is_cancelled():
    async def main():
        events, ticket = Events(final=str, deadline=0.0), Ticket()
        events.cancel()
        events.attach(ticket)
        assert ticket.cancelled

    asyncio.run(main())


def test_the_time_limit_ends_the_wait_and_nothing_else():
    async def main():
        events = Events(final=str, deadline=asyncio.get_running_loop().time() + 0.1)
        events.emit(1)
        events.emit(2)
        seen = []

        async def read():
            async for event in events:
                seen.append(event)
                await asyncio.sleep(0.2)  # a slow client: this wait is not the answer's

        with pytest.raises(TimeoutError):
            await read()
        assert seen == [1, 2]
        assert events.cancelled

    asyncio.run(main())


@pytest.mark.parametrize("read", [0, 1])
def test_an_answer_whose_client_goes_is_cancelled_however_far_it_is(read):
    async def main():
        cancelled, closed, sent = [], [], []
        gone = asyncio.Event()

        async def content():
            try:
                while True:
                    yield b"a"
            finally:
                closed.append(True)

        async def receive():
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)
            if len(sent) > read:
                gone.set()
                await asyncio.sleep(10)

        answer = Streamed(content(), cancel=lambda: cancelled.append(True), media_type="audio/pcm")
        scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
        await asyncio.wait_for(answer(scope, receive, send), 5)
        assert cancelled
        assert len(closed) == read

    asyncio.run(main())
