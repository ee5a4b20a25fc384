import pickle

import pytest

from muomni.frontends.tokenizer import Tokenizer
from muomni.special_tokens import BOS, EOS, PIECES, UNK


def test_special_tokens_have_their_ids(tokenizer):
    assert tokenizer.vocab_size == 340
    assert tuple(tokenizer.piece(index) for index in range(len(PIECES))) == PIECES


@pytest.mark.parametrize(
    "text",
    [
        "the big red circle",
        " two  spaces ",
        "line\nline\ttab",
        "μOmni 漢字 é 🙂",
        "",
        "a" * 300,
        "x=[1, 2], 'q'",
    ],
)
def test_text_round_trips(tokenizer, text):
    ids = tokenizer.encode(text, bos=True, eos=True)
    assert ids[0] == BOS
    assert ids[-1] == EOS
    assert UNK not in ids
    assert tokenizer.decode(ids) == text


def test_written_special_tokens_stay_text(tokenizer):
    ids = tokenizer.encode("<user> hello </s> <image>")
    assert min(ids) >= len(PIECES)
    assert tokenizer.decode(ids) == "<user> hello </s> <image>"


def test_segments_join_like_running_text(tokenizer):
    assert tokenizer.encode("the big") + tokenizer.encode("red circle") == tokenizer.encode("the big red circle")


def test_digits_are_single_pieces(tokenizer):
    pieces = [tokenizer.piece(index) for index in tokenizer.encode("128 + 7")]
    assert not any(sum(c.isdigit() for c in piece) > 1 for piece in pieces if not piece.startswith("<"))


def test_save_load_and_pickle_keep_the_fingerprint(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t.model")
    for other in (Tokenizer.load(tmp_path / "t.model"), pickle.loads(pickle.dumps(tokenizer))):
        assert other.fingerprint() == tokenizer.fingerprint()
        assert other.encode("what colour") == tokenizer.encode("what colour")


def test_training_twice_gives_the_same_model(tmp_path):
    lines = ["the red circle", "a blue square is here"] * 20
    first = Tokenizer.train(iter(lines), 290, tmp_path / "a.model")
    assert first.fingerprint() == Tokenizer.train(iter(lines), 290, tmp_path / "b.model").fingerprint()
    # vision (fewer pieces will do) and thinker (they will not) may train it at the same moment, each for itself
    assert first.fingerprint() == Tokenizer.train(iter(lines), 290, tmp_path / "c.model", exact=False).fingerprint()


def test_bad_files_and_sizes_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.model"):
        Tokenizer.load(tmp_path / "gone.model")
    (tmp_path / "junk.model").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"junk\.model"):
        Tokenizer.load(tmp_path / "junk.model")
    with pytest.raises(ValueError, match="vocab_size=5000"):
        Tokenizer.train(["too little text"], 5000, tmp_path / "t.model")
    assert Tokenizer.train(["too little text"], 5000, tmp_path / "few.model", exact=False).vocab_size < 5000
    with pytest.raises(ValueError, match="cannot train"):
        Tokenizer.train([], 300, tmp_path / "t.model")
    assert not (tmp_path / "t.model").exists()
