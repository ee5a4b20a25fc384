"""Speech: bit-exact whatever was spoken before, normalised, resampled right, held-out voices and sentences apart."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from datamodules.world import WorldSpec, espeak
from datamodules.world.arithmetic import Arithmetic, equation
from datamodules.world.rng import content_split
from datamodules.world.sentences import Sentences, engine_text, normalise
from datamodules.world.speech import DOWN, ENGINE_RATE, HELD_OUT, UP, resample, voice_of
from muomni.frontends import phonemes
from muomni.frontends.text_normalizer import LETTERS, normalize_text

pytest.importorskip("espeakng_loader", reason="speech of the world needs the extra `world`")


def read(root: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (root / name).read_text().splitlines()]


def test_the_same_text_gives_the_same_samples_whatever_was_spoken_before() -> None:
    first, rate = espeak.speak("a big red circle", voice_of(0))
    other, _ = espeak.speak("seven green stars", voice_of(1))
    again, _ = espeak.speak("a big red circle", voice_of(0))
    assert rate == ENGINE_RATE
    assert np.array_equal(first, again)
    assert not np.array_equal(first, espeak.speak("a big red circle", voice_of(8))[0])
    assert np.abs(other).max() > 1000


def test_a_voice_that_the_engine_lacks_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"could not take the voice xx\+m1"):
        espeak.speak("hello", espeak.Voice(language="xx", variant="m1", pitch=50, range=50, rate=160))


def test_breathy_voices_make_the_same_samples_at_another_time() -> None:
    first, _ = espeak.speak("a big red circle", voice_of(1))
    time.sleep(1.1)  # the engine seeds its noise with the second
    assert np.array_equal(first, espeak.speak("a big red circle", voice_of(1))[0])


def test_phonemes_that_were_looked_up_before_change_no_sample() -> None:
    first, _ = espeak.speak("a big red circle", voice_of(0))
    phonemes.word_phonemes.cache_clear()
    phonemes.word_phonemes("circle")
    assert np.array_equal(first, espeak.speak("a big red circle", voice_of(0))[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12 + 7 = 19?", "twelve plus seven is nineteen"),
        ("What's at the TOP-left, then?", "what's at the top left then"),
        ("107 - 20", "one hundred and seven minus twenty"),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize("level", ["easy", "hard"])
def test_what_the_world_writes_in_words_is_what_inference_says_of_the_digits(level: str) -> None:
    """One function of numbers and signs for the world's sentences, the Talker's texts, a judge's transcripts and inference."""
    sums = Arithmetic(seed=0, level=level)
    every = [*sums.held_out["test"], *sums.test_sums("test", question_type="arithmetic_far", count=50)]
    for numbers in every[:: 1 + len(every) // 300]:
        written, words = equation(numbers, words=False), equation(numbers, words=True)
        assert normalize_text(written, LETTERS).text == normalise(words) == words
        assert normalize_text(f"{written.capitalize()}.", LETTERS).text == words


def test_the_letter_a_is_spoken_by_its_name_in_spelled_words_only() -> None:
    assert engine_text("c a t", "spelled") == "c [[eI]] t"
    assert engine_text("a cat", "sentence") == "a cat"


def test_resampling_keeps_a_tone_and_removes_what_16_khz_cannot_hold() -> None:
    seconds = np.arange(ENGINE_RATE) / ENGINE_RATE
    window = np.hanning(ENGINE_RATE)
    low = resample((10_000 * window * np.sin(2 * np.pi * 440 * seconds)).astype(np.int16))
    high = resample((10_000 * window * np.sin(2 * np.pi * 9000 * seconds)).astype(np.int16))
    assert len(low) == ENGINE_RATE * UP // DOWN == 16_000
    expected = 10_000 * np.hanning(16_000) * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert np.abs(low - expected).max() < 20
    assert np.abs(high).max() < 20


def test_sentences_have_3_to_12_words_and_their_split(spec: WorldSpec) -> None:
    sentences = Sentences(spec)
    for index in range(80):
        kind, text = sentences.draw("test", "test", index, {"sentence": 1.0})
        assert kind == "sentence"
        assert 3 <= len(text.split()) <= 12
        assert normalise(text) == text
        assert content_split(spec.seed, "speech", text) == "test"


def test_manifests_of_speech(root: Path) -> None:
    speakers = {}
    for split in ("train", "val", "test", "test_voice"):
        rows = read(root, f"speech/{split}.jsonl")
        speakers[split] = {row["speaker"] for row in rows}
        for row in rows:
            data, rate = soundfile.read(root / "speech" / row["audio"])
            assert rate == row["sample_rate"] == 16_000
            assert len(data) / rate == pytest.approx(row["seconds"], abs=1e-3)
            assert np.abs(data).max() > 0.05
    assert speakers["test_voice"] <= set(HELD_OUT)
    assert not (speakers["train"] | speakers["val"] | speakers["test"]) & set(HELD_OUT)
    train = read(root, "speech/train.jsonl")
    assert len(train) == 16
    assert all(row["speaker"] == 0 for row in train[10:])  # the narrator's stream
    assert [row["speaker"] for row in read(root, "speech/test.jsonl")][::2] == [0] * 4
