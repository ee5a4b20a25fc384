"""Events cross from a scheduler's thread to asyncio: none is lost or late, and the loop is not woken for each of them."""

import asyncio
import threading
import time

import pytest

from muomni.inference.answer import Answer, Piece
from muomni.inference.decoding.timings import Timings
from muomni.serving import events
from muomni.serving.events import Events, merged


def answer(text):
    return Answer(
        text=text, finish_reason="stop", prompt_tokens=1, cached_tokens=0, completion_tokens=1, logprobs=None, timings=Timings()
    )  # fmt: skip


def events_of(**options):
    return Events(final=Answer, deadline=asyncio.get_running_loop().time() + 60, **options)


def from_thread(emit):
    thread = threading.Thread(target=emit)
    thread.start()
    return thread


async def collected(source):
    return [event async for event in source]


def test_pieces_that_come_fast_are_joined_and_none_is_lost():
    async def run():
        for _ in range(20):
            source = events_of()
            words = [f"{index} " for index in range(300)]

            def emit(source=source, words=words):
                for word in words:
                    source.emit(Piece(word))
                source.emit(answer("end"))

            thread = from_thread(emit)
            got = await asyncio.wait_for(collected(source), 10)
            thread.join()
            assert "".join(event.text for event in got[:-1]) == "".join(words)
            assert isinstance(got[-1], Answer) and source.last is got[-1] and len(got) < 100

    asyncio.run(run())


def test_first_last_and_slow_events_come_at_once(monkeypatch):
    monkeypatch.setattr(events, "PAUSE", 0.3)

    async def run():
        source, times, sent = events_of(), [], []

        def emit():
            for event, pause in ((Piece("a"), 0.5), (Piece("b"), 0.05), (Piece("c"), 0.05), (answer("abc"), 0)):
                sent.append(time.monotonic())
                source.emit(event)
                time.sleep(pause)

        thread, texts = from_thread(emit), []
        async for event in source:
            texts.append(event.text)
            times.append(time.monotonic())
        thread.join()
        assert texts == ["a", "b", "c", "abc"]
        assert source.first == pytest.approx(sent[0], abs=0.2)
        for came, emitted in ((times[0], sent[0]), (times[1], sent[1]), (times[3], sent[3])):
            assert came - emitted < 0.2

    asyncio.run(run())


def test_whole_answers_wake_the_loop_once():
    async def run():
        source = events_of(whole=True)
        for _ in range(5):
            source.emit(Piece("a"))
        source.emit(answer("aaaaa"))
        assert [event.text for event in await collected(source)] == ["aaaaa"] and source.first > 0

    asyncio.run(run())


def test_an_error_ends_the_answer_and_cancels():
    class Ticket:
        cancelled = False

        def cancel(self):
            self.cancelled = True

    async def run():
        source = events_of()
        source.ticket = ticket = Ticket()
        source.emit(Piece("a"))
        source.emit(ValueError("broken"))
        with pytest.raises(ValueError, match="broken"):
            await collected(merged([source]))
        assert ticket.cancelled

    asyncio.run(run())
