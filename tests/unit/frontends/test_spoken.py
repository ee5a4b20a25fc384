import string

import pytest

from muomni.frontends.spoken import LETTERS, number_words, spoken_form


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (19, "nineteen"),
        (40, "forty"),
        (97, "ninety seven"),
        (305, "three hundred five"),
        (12_010, "twelve thousand ten"),
        (2_000_001, "two million one"),
    ],
)
def test_numbers_in_words(number, words):
    assert number_words(number) == words


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Hello, world!", "hello world"),
        ("12 + 7 = 19", "twelve plus seven equals nineteen"),
        ("It's -3.5%", "it's minus three point five percent"),
        ("1,200 men; room 007", "one thousand two hundred men room zero zero seven"),
        ("漢字", ""),
    ],
)
def test_text_in_letters_alone(text, spoken):
    assert spoken_form(text, LETTERS) == spoken


def test_what_the_talker_knows_stays():
    assert spoken_form("Room 7, please!", string.printable) == "Room 7, please!"
