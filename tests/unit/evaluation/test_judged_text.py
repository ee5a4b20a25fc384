"""The texts of an independent judge and the truth: the same words on both sides, by hand."""

import pytest

from muomni.evaluation.judged_text import judged_text

pytest.importorskip("transformers", reason="Whisper's English normalizer is in transformers")


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("seven minus two is five", "7 - 2 = 5."),
        ("seven minus two is five", "Seven minus 2 is 5"),
        ("four two nine", "4-2-9"),
        ("four two nine", "429"),
        ("four two nine", "Four, two, nine."),
        ("twenty one", "21"),
        ("thirteen plus six", "13 + 6"),
        ("it is twenty dollars", "Hmm, it's $20."),
        ("twenty percent", "20%"),
        ("three point five", "3.5"),
        ("what colour is the centre", "What color is the center?"),
        ("the grey harbour", "the gray harbor"),
        ("doctor smith will not go", "Dr. Smith won't go"),
        ("a cup", "[BLANK_AUDIO] A cup (applause)"),
        ("one cup", "1 cup"),
    ],
)
def test_what_is_one_text_is_compared_as_one(said, written):
    assert judged_text(said) == judged_text(written)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 7 - 2 = 5!", "it is seven minus two is five"),
        ("two hundred and five", "two zero five"),  # of three digits and more each is said
        ("2 1 7 5 6 3", "two one seven five six three"),
        ("m a r b l e", "m a r b l e"),
        ("", ""), (" ... ", ""), ("[noise]", ""), ("😀", ""),
    ],
)  # fmt: skip
def test_words_by_hand(text, words):
    assert judged_text(text) == words
    assert judged_text(words) == words, "a judged text stays as it is"


def test_another_word_stays_another():
    assert judged_text("six") != judged_text("5") and judged_text("the best food") != judged_text("the best foot")
