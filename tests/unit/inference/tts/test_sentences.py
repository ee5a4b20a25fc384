"""Sentences of a text: where they end, and that pieces of a text have the same ones."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muomni.inference.tts.sentences import SentenceSplitter, split_long, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("one sentence", ["one sentence"]),
        ("It is red. Is it? Yes! Good.", ["It is red.", "Is it?", "Yes!", "Good."]),
        ("the circle is red. the square is blue.", ["the circle is red.", "the square is blue."]),
        ("Dr. Smith met Mrs. J. R. Jones at 3.5 p.m. in St. Ives.", ["Dr. Smith met Mrs. J. R. Jones at 3.5 p.m. in St. Ives."]),
        ('He said "Stop!" Then (so it was.) he left.', ['He said "Stop!"', "Then (so it was.)", "he left."]),
        ("See fig. 3 and no. 4. I say no. Then go.", ["See fig. 3 and no. 4.", "I say no.", "Then go."]),
        ("Well... maybe. Wait… What", ["Well... maybe.", "Wait…", "What"]),
        ("A title\n\n1. first item\n2. second", ["A title", "1. first item", "2. second"]),
        ("它是红的。真的吗？是", ["它是红的。", "真的吗？", "是"]),
        (" \n ", []),
    ],
)  # fmt: skip
def test_sentences_of_a_text(text, sentences):
    assert split_sentences(text) == sentences


@given(st.lists(st.text(alphabet='ab D1.!?…\n ")。」', max_size=6), max_size=8))
def test_pieces_of_a_text_have_the_sentences_of_the_whole(pieces):
    splitter = SentenceSplitter()
    came = [sentence for piece in pieces for sentence in splitter.push(piece)]
    came += splitter.close()
    assert came == split_sentences("".join(pieces))
    assert "".join("".join(came).split()) == "".join("".join(pieces).split())  # no letter is lost


def test_a_sentence_comes_with_the_first_letter_after_it():
    splitter = SentenceSplitter()
    assert [splitter.push(piece) for piece in ("It is", " red.", " ", "Is", " it?")] == [[], [], [], ["It is red."], []]
    assert splitter.close() == ["Is it?"]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("short", ["short"]),
        ("the red circle, which is big, is on the left", ["the red circle,", "which is big, is on the left"]),
        ("the red circle which is big is on the left", ["the red circle which", "is big is on the left"]),
        ("a" * 50, ["a" * 25, "a" * 25]),
        ("it costs 1,000,000 dollars and 20 cents more", ["it costs 1,000,000", "dollars and 20 cents more"]),
    ],
)
def test_a_sentence_that_does_not_fit_is_split_at_commas_then_words_then_anywhere(text, pieces):
    assert list(split_long(text, lambda part: len(part) <= 30)) == pieces


@pytest.mark.parametrize(
    "unit", [" ", "\n", "\t \x0b\n", ".", "?!", "a. ", "。", " .", "x.y. ", " - ", ", ", "\u3000", "☃. "]
)
@pytest.mark.parametrize("end", ["", "a"])
def test_the_time_grows_with_the_length_of_the_text_not_with_its_square(unit, end):
    text = ("a" + unit * 60_000)[:60_000] + end
    begun = time.process_time()
    for sentence in split_sentences(text):
        next(split_long(sentence, lambda part: len(part) < 500), None)
    assert time.process_time() - begun < 3  # it was minutes
