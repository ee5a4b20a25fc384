"""Speakers that are held out: their clips alone are measured, their texts are unknown to language models."""

import json

import pytest

from benchmarks.quality.asr import spoken_by, training_texts

ROWS = [
    {"id": f"{speaker}-{text}", "audio": f"{text}.wav", "text": text, "speaker": speaker}
    for speaker, text in (("ann", "One"), ("bob", "Two"), (3, "Three"))
]


@pytest.fixture
def manifest(tmp_path):
    for row in ROWS:
        (tmp_path / row["audio"]).touch()
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path / "all.jsonl"


def test_only_the_speakers_held_out_are_measured():
    assert [row["text"] for row in spoken_by(ROWS, ("bob", "3"))] == ["Two", "Three"]
    assert spoken_by(ROWS, ()) == ROWS
    with pytest.raises(ValueError, match="held_out=eve: no clip"):
        spoken_by(ROWS, ("eve",))


def test_language_models_know_no_text_of_theirs(manifest):
    assert list(training_texts(manifest, None, ("bob",), lowercase=True)) == ["one", "three"]
    assert list(training_texts(manifest, None, (), lowercase=False)) == ["One", "Two", "Three"]
