"""The conditions are what their names say, and answers are counted over several batches."""

import numpy as np
import pytest
import soundfile
import torch

from benchmarks.quality import hearing
from benchmarks.quality.hearing import CONDITIONS, RATE, answers, drawn, level, noise, silence, transcripts


@pytest.fixture
def clip():
    return 0.3 * torch.sin(2 * torch.pi * 300 * torch.arange(RATE) / RATE)


def changed(change, clip):
    return change(clip, torch.Generator().manual_seed(0))


def test_silence_and_level_are_what_they_say(clip):
    quiet = changed(silence(0.5, 2.0), clip)
    assert len(quiet) == RATE * 3.5 and not quiet[: RATE // 2].any() and not quiet[-2 * RATE :].any()
    assert torch.equal(quiet[RATE // 2 : RATE // 2 + RATE], clip)
    assert changed(level(-40.0), clip).abs().max() == pytest.approx(0.01, abs=1 / 32767)


def test_noise_has_its_distance_and_its_colour(clip):
    white, pink = (changed(noise(20.0, colour=colour), clip) - clip for colour in (0.0, 0.5))
    for behind in (white, pink):
        assert float(10 * torch.log10(clip.square().mean() / behind.square().mean())) == pytest.approx(20.0, abs=0.01)
    halves = [torch.fft.rfft(behind).abs().square().chunk(2) for behind in (white, pink)]
    assert float(halves[0][0].sum() / halves[0][1].sum()) == pytest.approx(1.0, abs=0.1)
    assert halves[1][0].sum() > 5 * halves[1][1].sum()
    assert len(changed(noise(20.0, around=3.0), clip)) == 7 * RATE


def test_a_telephone_ends_at_4_khz():
    low, high = (torch.sin(2 * torch.pi * hertz * torch.arange(RATE) / RATE) for hertz in (1000, 6000))
    telephone = CONDITIONS["telephone, 8 kHz"]
    assert changed(telephone, low).square().mean() > 0.45
    assert changed(telephone, high).square().mean() < 0.005


def test_rows_of_all_kinds_are_drawn_in_order():
    rows = [(place, place % 2) for place in range(200)]
    some = drawn(rows, 100)
    assert some == sorted(set(some)) and len(some) == 100 and some == drawn(rows, 100)
    assert 35 < sum(kind for _, kind in some) < 65
    assert drawn(rows, 200) == rows


def test_answers_are_counted_over_batches(tmp_path, monkeypatch):
    """Seven rows in batches of three; the engine says how loud the sound is: two rows expect something else."""
    monkeypatch.setattr(hearing, "BATCH", 3)
    rows = []
    for place in range(7):
        path = tmp_path / f"{place}.wav"
        soundfile.write(path, np.full(1600, place / 10, np.float32), RATE)
        said = str(place) if place not in (2, 6) else "x"
        rows.append(
            {
                "messages": [
                    {"role": "user", "content": [{"type": "audio", "audio": str(path)}]},
                    {"role": "assistant", "content": [{"type": "text", "text": said}]},
                ]
            }
        )

    class Engine:
        sizes: list[int] = []

        def generate_batch(self, requests, *, max_new_tokens):
            self.sizes.append(len(requests))
            return [f"{round(10 * float(r.messages[0]['content'][0]['audio'].max()))} " for r in requests]

    assert answers(Engine(), rows, CONDITIONS["clean"]) == pytest.approx(100 * 5 / 7)
    assert Engine.sizes == [3, 3, 1]


def test_transcripts_are_compared_with_their_own_texts(clip):
    class Engine:
        def transcribe(self, waveform):
            return "loud" if waveform.abs().max() > 0.2 else "quiet"

    rates = transcripts(Engine(), [(clip, "loud"), (clip / 10, "quiet")], CONDITIONS["clean"])
    assert rates["wer"] == 0
    assert transcripts(Engine(), [(clip, "loud"), (clip / 10, "quiet")], level(-40.0))["wer"] == 50
