"""Words said twice, and lengths of speech."""

from collections import Counter

import pytest
import torch

from muomni.metrics.speech_faults import length_faults, repeated_share, repeats, sounding_ratio, sounding_seconds


def test_runs_of_words_that_are_said_again():
    assert repeats(["a", "red", "red", "circle"]) == Counter({("red",): 1})
    assert repeats(["one", "two", "one", "two"]) == Counter({("one", "two"): 1})
    assert repeats(["a", "b", "a"]) == Counter()
    assert not repeats([])


def test_what_the_text_has_twice_itself_is_no_fault():
    assert repeated_share(["four four two"], ["four four two"]) == 0.0
    assert repeated_share(["four four four two"], ["four four two"]) == 100.0
    assert repeated_share(["four two two"], ["four four two"]) == 100.0  # another word than in the text
    assert repeated_share(["the red circle the red circle", "the red circle"], ["the red circle"] * 2) == 50.0
    assert repeated_share(["", "x"], ["a", "x"]) == 0.0


def test_what_was_cut_off_is_no_runaway():
    assert length_faults([1.0, 0.5, 3.0, 2.5], [False, False, False, True]) == {
        "truncated": 25.0, "runaway": 25.0, "duration_ratio": 1.75,
    }  # fmt: skip


def test_pauses_do_not_sound():
    tone = 0.3 * torch.sin(torch.arange(8000) * 0.3)
    with_pauses = torch.cat([torch.zeros(8000), tone, 1e-4 * torch.ones(8000)])
    assert sounding_seconds(tone, sample_rate=16000) == pytest.approx(0.5)
    assert sounding_seconds(with_pauses, sample_rate=16000) == pytest.approx(0.5)
    assert sounding_seconds(1e-3 * with_pauses, sample_rate=16000) == pytest.approx(0.5)  # whatever the level
    assert (
        sounding_seconds(torch.zeros(8000), sample_rate=16000)
        == sounding_seconds(torch.zeros(3), sample_rate=16000)
        == 0.0
    )
    half = with_pauses.clone()
    half[12000:] = 0
    assert sounding_ratio(half, with_pauses, sample_rate=16000) == pytest.approx(0.5)
    assert sounding_ratio(torch.zeros(9), with_pauses, sample_rate=16000) == 0.0
    assert sounding_ratio(tone, torch.zeros(9), sample_rate=16000) == 1.0
