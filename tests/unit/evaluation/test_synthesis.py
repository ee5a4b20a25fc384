"""What is said and what a judge writes, compared in the same words."""

from types import SimpleNamespace

import pytest
import torch

from muomni.evaluation.codec import CodecEvaluator
from muomni.evaluation.judge import Judge

TEXT = "Dr. Smith paid $5 for 7 - 2 = 5."
WORDS = "doctor smith paid five dollars for seven minus two is five"


def judge(writes, characters=None):
    """A judge that writes the same of every waveform."""
    made = Judge.__new__(Judge)
    recognizer = SimpleNamespace(audio=SimpleNamespace(characters=characters))
    made._recognizer = recognizer
    listener = lambda waveforms: [writes] * len(waveforms)  # noqa: E731
    listener.read = lambda paths: ([torch.ones(640)] * len(paths), [writes] * len(paths))
    listener.words = lambda waveform, text: [(word, 0.0, 0.1) for word in text.split()]
    made.on = lambda device: listener
    return made


def evaluate(judge, texts, sounds=None):
    evaluator = CodecEvaluator(model=torch.nn.Linear(1, 1), vocoder=lambda mel: mel, judge=judge, sample_rate=16000)
    evaluator.split, evaluator.state = "test", evaluator.state_type()
    batch = SimpleNamespace(
        mel=torch.zeros(1), texts=texts, audio=["a.wav"] * len(texts), sample_ids=["a"] * len(texts)
    )
    evaluator.transcribe(batch, {"codec": sounds or [torch.ones(640)] * len(texts)})
    return evaluator


@pytest.mark.parametrize("writes", [WORDS, WORDS.upper(), "doctor smith paid $5 for 7-2=5"])
def test_signs_numbers_and_abbreviations_are_words_on_both_sides(writes):
    evaluator = evaluate(judge(writes), [TEXT])
    assert evaluator.state.truth == [WORDS]
    assert evaluator.cer("codec") == evaluator.cer("recorded") == 0.0


def test_an_example_has_words_over_time_and_the_strangers_words():
    evaluator = evaluate(judge(WORDS), [TEXT])
    example = evaluator.examples[0]
    assert example["words"][:2] == [("doctor", 0.0, 0.1), ("smith", 0.0, 0.1)] and example["cer"] == 0.0
    evaluator.independent = SimpleNamespace(compared=lambda texts, truth: ([texts[0].lower()], truth))
    assert evaluator._by_stranger("A", "b") == {
        "whisper": "A", "whisper_words": "a", "whisper_truth": "b", "whisper_cer": 100.0,
    }  # fmt: skip
    assert evaluator._by_stranger("A", "") == {"whisper": "A"}


def test_a_recognizer_of_another_script_is_compared_in_its_letters():
    evaluator = evaluate(judge("привет мир", characters="абвгдежзиклмнопрстуфхцчшщъыьэюя "), ["Привет, мир!"])
    assert evaluator.cer("codec") == 0.0


def test_what_has_no_words_is_left_out():
    evaluator = evaluate(judge("a"), ["…", "a"])
    assert evaluator.pairs("codec") == (["a"], ["a"])
    assert evaluator.spread()["clips"] == 2.0
    with pytest.raises(ValueError, match="test: no text of this split has a word"):
        evaluate(judge("a"), ["…"]).cer("codec")


def test_speech_that_stops_early_is_truncated_and_what_is_said_twice_repeated():
    early = torch.cat([torch.ones(160), torch.zeros(480)])
    evaluator = evaluate(judge("a b a b"), ["a b", "a b a b"], [early, torch.ones(640)])
    metrics = evaluator.spread()
    assert metrics["truncated_resynthesis"] == 50.0 and metrics["runaway_resynthesis"] == 0.0
    assert metrics["duration_ratio_resynthesis"] == 0.625 and metrics["repeated_resynthesis"] == 50.0
