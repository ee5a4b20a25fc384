"""Seconds of a program to its end, or until it says something; one that fails is named."""

import sys

import pytest

from benchmarks.speed import start


def python(code):
    return [sys.executable, "-c", code]


def test_a_program_is_timed_to_its_end_or_until_what_it_says():
    seconds, busy = start.timed(python("sum(range(3_000_000)); import time; time.sleep(0.3)"))
    assert seconds > 0.3 and busy > 0.0
    until = python("import time; print('memory expected', flush=True); time.sleep(60)")
    assert start.timed(until, until=start.FIRST_STEP)[0] < 30


@pytest.mark.parametrize("until", [b"", b"never said"])
def test_a_program_that_fails_is_named_with_what_it_said(until):
    with pytest.raises(ValueError, match="no such export"):
        start.timed(python("import sys; sys.exit('error: no such export')"), until=until)


def test_a_program_that_ends_too_early_has_not_reached_its_phase():
    with pytest.raises(ValueError, match="failed"):
        start.timed(python("print('done')"), until=b"never said")


def test_the_phases_of_a_start_are_shown_over_that_of_torch(monkeypatch, tmp_path):
    seconds = iter([9.0] * 6 + [2.0, 2.5, 2.75, 3.0, 5.0, 8.0])  # the first round does not count
    monkeypatch.setattr(start, "timed", lambda command, until=b"": (next(seconds), 1.0))
    rows = start.measure(start.OWN | {"rounds": 1}, tmp_path)
    assert [row["over torch"] for row in rows] == [0.0, 0.5, 0.75, 1.0, 3.0, 6.0]
    assert [row["processor over torch"] for row in rows] == [0.0] * 6
