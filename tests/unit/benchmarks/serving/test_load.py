"""A short load and a few clients that break off, against a live server; and what is computed of the numbers."""

import asyncio
import logging
import os

import aiohttp
import pytest

from benchmarks.serving.aborts import Aborts, settled, warmed_up
from benchmarks.serving.client import Call, Outcome
from benchmarks.serving.first_audio import hear, lateness
from benchmarks.serving.load import Record, at_once, by_group, first_pieces, memory_growth, one_by_one
from benchmarks.serving.mixture import Case, Mixture
from benchmarks.serving.process import Process, metrics


@pytest.fixture(scope="module")
def cases(engine):
    return Mixture(engine, None, model="tiny", tokens=8, distinct=2, seconds=0.5, seed=0).cases()


def test_every_answer_under_load_is_that_of_its_single_run(live, cases):
    kinds = {case.call.kind for case in cases}
    assert kinds >= {"chat", "chat stream", "completion", "completion stream", "speech", "transcription"}
    idle = asyncio.run(one_by_one(live.url, cases, rounds=1))
    loaded = asyncio.run(at_once(live.url, cases, clients=12, seconds=1.0, think=0.0, seed=0))
    for record in (idle, loaded):
        assert not record.wrong and not record.errors
    assert loaded.requests >= 12 and first_pieces(loaded)
    assert {row["group"] for row in by_group(idle, loaded)} == {case.group for case in cases}


async def after(aborts, url, process, before):
    await aborts.run(40, at_once=20)
    return await settled(url, process, before)


def test_clients_that_break_off_leave_nothing_behind(live, caplog):
    process, aborts = Process(os.getpid()), Aborts(live.url, "tiny", seed=0)
    before = asyncio.run(warmed_up(aborts, live.url, process, 20))
    with caplog.at_level(logging.WARNING):
        left = asyncio.run(after(aborts, live.url, process, before))
    assert len(left) == 8 and not any(value > 0 for value in left.values())
    assert not [record for record in caplog.records if record.exc_info]
    assert metrics(live.url)["muomni_requests_total"] > 40


def test_a_wrong_answer_and_an_error_are_counted():
    call = Call(kind="chat", path="/", body={})
    case, record = Case(group="text", weight=1.0, call=call, expected="yes"), Record()
    for outcome in (Outcome(value="yes"), Outcome(value="no", refused=2), Outcome(error="500: broken")):
        record.add(case, outcome)
    assert len(record.outcomes["text"]) == 1 and len(record.wrong) == 1
    assert record.errors == {"500: broken": 1} and record.requests == 3 and record.refused == 2


def test_growth_is_the_slope_after_the_warm_up():
    readings = [(float(at), 100.0 if at < 20 else 200.0 + 0.01 * at) for at in range(101)]
    growth = memory_growth(readings)
    assert growth["slope_mib_per_hour"] == pytest.approx(36.0)
    assert growth["settled_mib"] == pytest.approx(200.2) and growth["growth_percent"] == pytest.approx(0.4, abs=0.01)


def test_a_chunk_is_late_if_its_listener_waited(live):
    assert lateness([0.1, 0.5, 1.4], [0.0, 0.5, 1.0]) == pytest.approx([-0.1, 0.3])

    async def spoken():
        async with aiohttp.ClientSession(live.url) as client:
            return await hear(client, "a blue square", model="tiny")

    came, before = asyncio.run(spoken())
    assert came == sorted(came) and before[0] == 0.0 and len(came) == len(before)
