"""Tokenizers of other people: whatever their layout, our special pieces come to their ids and text is cut as before."""

import io
import random

import pytest
import sentencepiece

from muomni.frontends.special_pieces import misplaced, read_model, with_special_pieces, without_pieces
from muomni.frontends.tokenizer import Tokenizer
from muomni.special_tokens import PIECES

SENTENCE = "the cat sat on a mat and <user> saw <s> the red dog né 1 22 user pad image"
WORDS = SENTENCE.split()
LINES = [" ".join(random.Random(i).choices(WORDS, k=12)) for i in range(200)]
TEXT = "the <user> cat saw 22 <pad> né </s> zebra"


def trained(**options):
    buffer = io.BytesIO()
    given = {"vocab_size": 120, "model_type": "bpe", "hard_vocab_limit": False, "byte_fallback": False, **options}
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(LINES), model_writer=buffer, minloglevel=3, num_threads=1, **given
    )
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("options", "added"),
    [
        ({}, 6),
        ({"model_type": "unigram"}, 6),
        ({"pad_id": 3}, 5),
        ({"pad_id": 3, "pad_piece": "[PAD]", "bos_piece": "[BOS]"}, 5),
        ({"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}, 6),  # as T5
        ({"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "byte_fallback": True, "vocab_size": 380}, 5),  # as Gemma
        ({"control_symbols": ["<user>", "<system>"]}, 4),
        ({"user_defined_symbols": ["<user>", "<image>"]}, 4),
        ({"pad_id": 3, "control_symbols": list(PIECES[4:])}, 0),
        ({"pad_id": 3, "control_symbols": list(PIECES[:3:-1])}, 0),  # all are there, elsewhere
    ],
)
def test_every_layout_becomes_ours_and_text_keeps_its_pieces(options, added):
    model = trained(**options)
    theirs = read_model(model)
    whole, names = with_special_pieces(model)
    ours = read_model(whole)
    assert misplaced(ours) is None and len(names) == added
    assert ours.vocab_size() == theirs.vocab_size() + added
    user_defined = "user_defined_symbols" in options  # such pieces are cut out of any text, as ours must not be
    for text in ("the red dog né", "" if user_defined else TEXT):
        assert ours.EncodeAsPieces(text) == theirs.EncodeAsPieces(text)
    tokenizer = Tokenizer(whole)
    assert not set(tokenizer.encode("<user> <image> <pad> <audio> a")) & set(range(1, len(PIECES)))
    assert tokenizer.decode(tokenizer.encode("the red dog")) == "the red dog"
    assert with_special_pieces(whole) == (whole, [])


def test_a_plain_model_is_refused_where_nothing_can_be_put_in(tmp_path):
    (tmp_path / "plain.model").write_bytes(trained())
    with pytest.raises(
        ValueError, match=r"plain\.model: .*piece 3 is .* where <pad> is needed; .*datamodule\.tokenizer=FILE"
    ):
        Tokenizer.load(tmp_path / "plain.model")


def test_ours_is_left_as_it_is_and_added_pieces_can_be_taken_away(tokenizer):
    model, _ = tokenizer.__getstate__()
    assert with_special_pieces(model) == (model, [])
    plain = trained()
    assert without_pieces(with_special_pieces(plain)[0], 3, 9) == plain


@pytest.mark.parametrize("junk", [b"", b"junk", b"\x0a\x02\x0a\x00", bytes(range(256))])
def test_what_is_no_model_is_one_line(junk):
    with pytest.raises(ValueError, match="not a SentencePiece model|it has no|piece 0") as error:
        Tokenizer(junk)
    assert "\n" not in str(error.value)
