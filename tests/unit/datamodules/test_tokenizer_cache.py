"""A tokenizer that the user names: its size is compared, and what it lacks is put into a copy."""

import io

import pytest
import sentencepiece

from datamodules.text_samples import encode_row
from datamodules.tokenizer_cache import pieces_of, tokenizer_for, tokenizer_of_export
from muomni.frontends.tokenizer import Tokenizer
from muomni.special_tokens import EOS, PIECES

LINES = ["the red circle is here", "a blue square was there", "what colour is it"] * 20


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    buffer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(LINES),
        model_writer=buffer,
        vocab_size=60,
        model_type="bpe",
        minloglevel=3,
        num_threads=1,
    )
    path = tmp_path_factory.mktemp("theirs") / "plain.model"
    path.write_bytes(buffer.getvalue())
    return path


def given(path, tmp_path, size, **options):
    return tokenizer_for(str(path), text=None, vocab_size=size, root=tmp_path / "kept", **options)


def test_a_plain_model_gets_our_special_pieces_in_a_copy_and_it_is_said(plain, tmp_path, caplog):
    before = plain.read_bytes()
    path = given(plain, tmp_path, 66)
    tokenizer = Tokenizer.load(path)
    assert tokenizer.vocab_size == 66 and tuple(tokenizer.piece(i) for i in range(len(PIECES))) == PIECES
    assert min(tokenizer.encode("the red circle")) >= len(PIECES)
    assert plain.read_bytes() == before and path.parent.parent == tmp_path / "kept"
    assert "<pad> <user> <assistant> <system> <image> <audio> are new" in caplog.text and str(path) in caplog.text
    assert "characters that it has no piece for become <unk>" in caplog.text and "several spaces" in caplog.text
    assert given(plain, tmp_path, 66) == path and given(path, tmp_path, 66) == path


@pytest.mark.parametrize(
    ("size", "exact", "fits"), [(60, True, False), (67, True, False), (67, False, True), (65, False, False)]
)
def test_another_number_of_pieces_is_refused_with_the_number_to_give(plain, tmp_path, size, exact, fits):
    if fits:
        assert given(plain, tmp_path, size, exact=exact).is_file()
        return
    reason = rf"plain\.model has 66 pieces, with the special ones .* vocab_size={size}: give vocab_size=66"
    with pytest.raises(ValueError, match=reason):
        given(plain, tmp_path, size, exact=exact)


def test_a_model_of_ours_of_another_size_is_refused(tmp_path, caplog):
    ours = Tokenizer.train(LINES, 300, tmp_path / "ours.model")
    assert given(tmp_path / "ours.model", tmp_path, ours.vocab_size) == tmp_path / "ours.model"
    assert not caplog.text
    with pytest.raises(ValueError, match=r"ours\.model has 300 pieces and vocab_size=360: give vocab_size=300"):
        given(tmp_path / "ours.model", tmp_path, 360)


def test_what_is_no_model_names_the_option(tmp_path):
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"datamodule\.tokenizer=.*junk: not a SentencePiece model"):
        given(tmp_path / "junk", tmp_path, 300)
    with pytest.raises(FileNotFoundError, match=r"datamodule\.tokenizer=.*gone: no such file"):
        given(tmp_path / "gone", tmp_path, 300)


def test_a_pretrained_models_tokenizer_is_taken_and_its_documents_read_as_text(tmp_path, caplog):
    pytest.importorskip("tokenizers")
    from tests.unit.frontends.pretrained import families, write

    theirs = write(tmp_path / "theirs", *families()["gpt2"]) / "tokenizer.json"
    size = pieces_of(str(theirs))
    path = given(theirs, tmp_path, size)
    tokenizer = Tokenizer.load(path)
    assert path.name == "tokenizer.json" and tokenizer.vocab_size == size and path == given(path, tmp_path, size)
    assert "<user> <assistant> <system> <image> <audio> are new" in caplog.text
    ids, prompt = encode_row(tokenizer, {"prompt": "where is it?", "answer": "in the café"})
    assert tokenizer.decode(ids) == "where is it? in the café" and ids[-1] == EOS
    assert tokenizer.decode(ids[prompt + 1 :]) == " in the café"
    text, begin = encode_row(tokenizer, {"text": "the cat"})
    assert begin == 0 and tokenizer.decode(text) == "the cat" and text[0] >= len(PIECES)
    assert tokenizer_of_export(str(path.with_name("tokenizer.model"))) == path
    with pytest.raises(ValueError, match=rf"tokenizer\.json has {size} pieces, .* give vocab_size={size}"):
        given(theirs, tmp_path, 300)


def test_a_broken_tokenizer_json_names_the_option_and_the_file_once(tmp_path):
    pytest.importorskip("tokenizers")
    for text in ("junk", '{"model": 5}'):
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(
            ValueError, match=r"datamodule\.tokenizer=\S*tokenizer\.json: no tokenizer\.json that"
        ) as caught:
            given(tmp_path / "tokenizer.json", tmp_path, 300)
        assert str(caught.value).count(str(tmp_path)) == 1
