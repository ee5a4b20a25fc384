"""What characters a stage is taught, and what becomes of the others."""

import pytest

from datamodules.char_vocab import Alphabet, clean_transcript

RUSSIAN = ["привет", "как дела", "ёж"]


def test_what_the_standard_characters_lack_is_counted_named_and_refused_over_one_percent(caplog):
    alphabet = Alphabet(None)
    alphabet.check(["a" * 199, "é"], what="few.jsonl")
    assert "few.jsonl: 1 of 200 characters cannot be written ('é'): the model's are the 98 of ASCII" in caplog.text
    alphabet.refuse()
    alphabet.check(["ok", *RUSSIAN], what="ru.jsonl")
    with pytest.raises(ValueError, match=r"over 1 %.*: ru\.jsonl: 15 of 18 characters .*characters=data"):
        alphabet.refuse()


def test_characters_are_learnt_once_from_the_training_texts(caplog):
    alphabet = Alphabet("data")
    assert alphabet.unknown
    alphabet.learn(RUSSIAN)
    alphabet.learn(["latin"])
    assert alphabet.characters == " авдежиклпртё"
    alphabet.check(["как", "was"], what="val.jsonl")
    assert "val.jsonl: 3 of 6 characters cannot be written ('was')" in caplog.text
    with pytest.raises(ValueError, match=r"val\.jsonl"):
        alphabet.refuse()


def test_what_is_not_spelled_is_not_counted(caplog):
    alphabet = Alphabet("any")
    alphabet.learn(RUSSIAN)
    alphabet.check(RUSSIAN, what="ru.jsonl")
    alphabet.refuse()
    assert alphabet.characters is None and not caplog.text


@pytest.mark.parametrize("asked", ["", "abca"])
def test_characters_are_named_once_each(asked):
    with pytest.raises(ValueError, match="name each character once"):
        Alphabet(asked)


def test_texts_are_learnt_in_one_spelling():
    """\u0438 and a breve are the letter \u0439; capitals go where lower case is asked for, in any script."""
    assert clean_transcript(" Мои\u0306 Дом \n", lowercase=True) == "мой дом" == clean_transcript("мой дом")
