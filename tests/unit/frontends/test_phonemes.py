"""Phonemes of words, and when each is spoken."""

import importlib.util
import sys

import pytest
import torch

from muomni.frontends import spoken_symbols
from muomni.frontends.char_vocab import UNKNOWN_TEXT, decode_characters, encode_characters
from muomni.frontends.phonemes import ALPHABET, phonemes, word_phonemes
from muomni.frontends.spoken_symbols import encode_symbols, known_symbols, symbol_centres, symbol_ends

TABLE = {"ab": "xyz", "c": "pq", "see": "s"}


@pytest.fixture
def made(monkeypatch):
    """Words of a table, so that times can be computed by hand."""
    monkeypatch.setattr(spoken_symbols, "word_phonemes", TABLE.__getitem__)
    monkeypatch.setattr(spoken_symbols, "phonemes", lambda text: " ".join(TABLE[word] for word in text.split()))


@pytest.mark.skipif(importlib.util.find_spec("espeakng_loader") is None, reason="pip install 'muomni[world]'")
def test_words_are_looked_up_alone_and_all_symbols_are_known():
    text = "the red circle is five o'clock lenan's"
    found = phonemes(text)
    assert found.split() == [phonemes(word) for word in text.split()] and found.split()[1] == "ɹˈɛd"
    ids = encode_symbols(text, reads="phonemes", characters=None)
    assert decode_characters(ids, ALPHABET) == found and UNKNOWN_TEXT not in found
    assert phonemes("'") == "'", "what the engine does not speak is one symbol all the same"
    assert len(ALPHABET) == len(set(ALPHABET)) < 97


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ValueError, match=r"needs the package espeakng-loader: pip install 'muomni\[world\]'"):
        word_phonemes("a word that no test looks up")


def test_letters_are_as_they_were():
    assert encode_symbols("ab c", reads="letters", characters="abc ") == encode_characters("ab c", "abc ")
    assert known_symbols("ab c", 3, "letters") == 3 and known_symbols("ab c", -2, "letters") == 0


def test_ends_of_phonemes_divide_those_of_their_word(made):
    ends = torch.tensor([1.0, 2.0, 4.0, 5.0, 7.0, 8.0])  # silence, a, b, space, c, silence
    assert symbol_ends("ab c", ends).tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


def test_centres_of_phonemes_are_spread_over_their_word(made):
    centres = torch.tensor([1.0, 3.0, 4.0, 6.0])
    found = symbol_centres("ab c", centres)
    # xyz at letters -.17, .5, 1.17 (kept within the word), the space, pq on the c
    assert found.tolist() == [1.0, 2.0, 3.0, 4.0, 6.0, 6.0]
    assert symbol_centres("see", torch.tensor([1.0, 2.0, 6.0])).tolist() == [2.0]


def test_a_look_ahead_knows_whole_words(made):
    assert [known_symbols("ab c see", letters, "phonemes") for letters in (0, 1, 2, 3, 4, 7, 8)] == [
        0,
        0,
        3,
        3,
        6,
        6,
        8,
    ]
