"""Which token each character of a text belongs to."""

import importlib.util

import pytest

from muomni.frontends import spoken_symbols
from muomni.frontends.spoken_symbols import symbol_letters
from muomni.frontends.token_spans import encode_with_spans
from muomni.frontends.tokenizer import Tokenizer
from muomni.special_tokens import BOS, UNK


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    lines = ["the big red circle", "a small blue square", "the red square"] * 20
    return Tokenizer.train(lines, 300, tmp_path_factory.mktemp("tokenizer") / "tokenizer.model")


def tokens(tokenizer, text):
    """Of each character of a text the piece that it belongs to."""
    ids, found = encode_with_spans(tokenizer, text)
    assert ids == tokenizer.with_form(None).encode(text, bos=True) and len(found) == len(text)
    assert found == sorted(found)
    return [tokenizer.piece(ids[index]) for index in found]


def test_letters_belong_to_their_pieces_and_a_space_to_the_word_after_it(tokenizer):
    ids, found = encode_with_spans(tokenizer, "the red")
    pieces = [tokenizer.piece(index) for index in ids]
    assert ids[0] == BOS and "".join(pieces[1:]) == "▁the▁red"
    expected, at = [], 0  # counted by hand: the pieces without the space before the text
    for number, piece in enumerate(pieces[1:], 1):
        letters = len(piece) - (number == 1)
        expected += [number] * letters
        at += letters
    assert found == expected and at == 7
    assert found[3] > found[2], "the space begins a piece"


@pytest.mark.parametrize("text", ["  two  spaces ", "café crème", "日本 red", "it's a square", "x"])
def test_every_character_has_a_token_that_spells_it(tokenizer, text):
    for character, piece in zip(text, tokens(tokenizer, text), strict=True):
        last = f"<0x{character.encode()[-1]:02X}>"
        assert piece == last or character in piece.replace("▁", " "), (text, character, piece)


def test_the_form_of_texts_is_not_applied_again(tokenizer):
    assert encode_with_spans(tokenizer.with_form("lower"), "A b") == encode_with_spans(tokenizer, "A b")


def test_unknown_characters_belong_to_the_unknown_piece(tmp_path):
    letters = Tokenizer.of_characters("abc ", tmp_path / "tokenizer.model")
    ids, found = encode_with_spans(letters, "abzz ca")
    assert [letters.piece(ids[index]) for index in found[:2] + found[4:]] == ["a", "b", "▁", "c", "a"]
    assert {ids[index] for index in found[2:4]} == {UNK}


@pytest.mark.skipif(importlib.util.find_spec("tokenizers") is None, reason="pip install 'muomni[hf]'")
@pytest.mark.parametrize("family", ["gpt2", "llama2", "gemma"])
def test_tokenizers_of_pretrained_models(family, tmp_path):
    from muomni.frontends.hf_tokenizer_files import read_pretrained
    from tests.unit.frontends.pretrained import families, write

    theirs = Tokenizer(read_pretrained(write(tmp_path, *families()[family])))
    for text in ("the red dot", "where's the blue cat"):
        ids, found = encode_with_spans(theirs, text)
        spelt = [theirs.token_bytes(ids[index]).decode() for index in found]
        assert all(character in each for character, each in zip(text, spelt, strict=True))
        assert found == sorted(found) and set(found) == set(range(len(ids) - len(theirs.encode(text)), len(ids)))


def test_a_tokenizer_that_changes_texts_is_refused(tokenizer, monkeypatch):
    monkeypatch.setattr(Tokenizer, "token_bytes", lambda self, index, *, first=False: b"#")
    with pytest.raises(
        ValueError, match=r"tokenizer\.model\) writes 'the red' otherwise than it is: .*conditioning=text"
    ):
        encode_with_spans(tokenizer, "the red")


def test_phonemes_share_the_letters_of_their_word(monkeypatch):
    spoken = {"who": "hu", "a": "eɪ", "ate": "eɪt"}
    monkeypatch.setattr(spoken_symbols, "word_phonemes", spoken.__getitem__)
    assert symbol_letters("who a ate", "phonemes") == [0, 1, 3, 4, 4, 5, 6, 7, 8]
    assert symbol_letters("who a", "letters") == [0, 1, 2, 3, 4]
