"""Each clip with another one of its speaker."""

from collections import Counter

import numpy as np

from datamodules.same_speaker import SameSpeaker, speaker_of
from tests.unit.datamodules.test_speech import build, manifest  # noqa: F401

ROWS = [{"speaker": name} for name in ("ann", "bob", "ann", "eve", "ann", "bob", 7)]


def test_the_next_clip_of_the_speaker_in_turn():
    clips = SameSpeaker(ROWS, np.arange(7))
    assert [clips.other(clip, None) for clip in range(7)] == [2, 5, 4, 3, 0, 1, 6]


def test_a_row_of_nobody_is_the_same_in_every_format():
    """JSON says null where Parquet and CSV say nothing."""
    assert [speaker_of(row) for row in ({}, {"speaker": None}, {"speaker": ""}, {"speaker": 0}, {"speaker": 7})] == [
        "0", "0", "0", "0", "7",
    ]  # fmt: skip


def test_every_other_clip_is_drawn_as_often_and_never_the_same():
    clips, rng = SameSpeaker(ROWS, np.arange(7)), np.random.default_rng(0)
    drawn = Counter(clips.other(2, rng) for _ in range(600))
    assert set(drawn) == {0, 4} and min(drawn.values()) > 230
    assert {clips.other(3, rng) for _ in range(9)} == {3}, "there is no other"


def test_clips_that_were_left_out_are_not_chosen():
    clips = SameSpeaker(ROWS, np.array([0, 1, 4, 6]))  # numbers are those of the clips, not of the rows
    assert [clips.other(clip, None) for clip in range(4)] == [2, 1, 0, 3]


def test_a_batch_has_references_of_its_speakers(manifest):  # noqa: F811
    data = build(manifest, references=True)
    samples = data.samples("train")
    batch = data.collate([samples.item(index, 3) for index in (0, 4, 5)])
    assert batch.references.speakers.tolist() == batch.speakers.tolist() == [0, 1, 2]
    assert [path[-5:] for path in batch.references.audio] == ["3.wav", "1.wav", "2.wav"]
    assert batch.references.mel_lengths.tolist() == [50, 30, 40] and batch.references.references is None
    again = data.collate([samples.item(index, 3) for index in (0, 4, 5)])
    assert again.references.audio == batch.references.audio, "a function of seed, epoch and clip"
    assert batch.to("meta").references.mel.device.type == "meta"
    assert build(manifest).collate([build(manifest).samples("train").item(0, 0)]).references is None
