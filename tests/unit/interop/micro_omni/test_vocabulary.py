"""Six pieces more, and away again: the same words, the same bytes."""

import pytest
import sentencepiece

from muomni.frontends.tokenizer import Tokenizer
from muomni.interop.micro_omni.vocabulary import ADDED, has_special_pieces, narrowed_tokenizer, widened_tokenizer
from muomni.special_tokens import PAD


def test_the_same_pieces_further_back(tokenizer_path):
    model = tokenizer_path.read_bytes()
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    ours = Tokenizer(widened_tokenizer(model))
    text = "abcd efgh hgfe aabb gg"
    ids = theirs.EncodeAsIds(text)
    assert ours.encode(text) == [index + len(ADDED) * (index >= PAD) for index in ids]
    assert ours.decode(ours.encode(text)) == theirs.DecodeIds(ids) == text
    assert not has_special_pieces(model)
    assert has_special_pieces(widened_tokenizer(model))


def test_back_to_the_same_bytes(tokenizer_path):
    model = tokenizer_path.read_bytes()
    assert narrowed_tokenizer(widened_tokenizer(model)) == model


def test_no_model():
    with pytest.raises(ValueError, match="not a SentencePiece model"):
        has_special_pieces(b"text")
