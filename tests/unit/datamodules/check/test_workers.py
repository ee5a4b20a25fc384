"""Worker processes: results in order, and a file that crashes its decoder costs its row alone."""

import os
import time

import pytest

from datamodules.check import inspection, workers
from datamodules.check.inspection import Work
from datamodules.check.workers import Workers


@pytest.mark.parametrize("processes", [1, 2])
def test_outcomes_come_in_order(processes, tmp_path):
    work = [(n, Work(audios=[str(tmp_path / f"{n}.wav")])) for n in range(200)]
    done = list(Workers(processes=processes, tokenizer=None, image_tokens=0).run(iter(work)))
    assert [n for n, _ in done] == list(range(200))
    assert all(f"{n}.wav" in outcome.facts[0] for n, outcome in done)


def test_a_decoder_that_crashes(monkeypatch):
    def inspect(path):
        if path == "bad":
            os._exit(11)
        return "fine"

    monkeypatch.setattr(inspection, "inspect_audio", inspect)
    work = [(n, Work(audios=["bad" if n == 70 else "good"])) for n in range(150)]
    done = list(Workers(processes=2, tokenizer=None, image_tokens=0).run(iter(work)))
    assert [n for n, _ in done] == list(range(150))
    assert {n for n, outcome in done if outcome.facts != ["fine"]} == {70}
    assert "crashes" in done[70][1].facts[0]


def test_nothing_is_left_running_when_the_reader_stops():
    before = {process.pid for process in workers.multiprocessing.active_children()}
    run = Workers(processes=2, tokenizer=None, image_tokens=0).run((n, Work(audios=["x"])) for n in range(10_000))
    for _ in range(100):
        next(run)
    run.close()
    # Asked again and again, not joined: the pool's own thread waits for them too, and of two that wait for a process one may
    # take it for alive just after it ended.
    until = time.monotonic() + 20
    while left := {process.pid for process in workers.multiprocessing.active_children()} - before:
        assert time.monotonic() < until, f"still running: {left}"
        time.sleep(0.02)
