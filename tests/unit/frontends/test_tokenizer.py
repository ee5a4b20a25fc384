import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


AWKWARD = [
    "▁",
    "▅",
    " ",
    "\t",
    "\n",
    "\r",
    "\0",
    "<s>",
    "<0xE2>",
    "⁇",
    "\ufeff",
    "\ufdd0",
    "\ufdd1",
    "\x85",
    "\u2028",
    "the",
]


ANY = st.one_of(st.integers(0, 0xD7FF), st.integers(0xE000, 0x10FFFF)).map(chr)  # all but halves of characters


@settings(max_examples=80, deadline=None, database=None)
@given(st.lists(st.one_of(st.sampled_from(AWKWARD), ANY), max_size=12).map("".join))
def test_any_text_round_trips(tokenizer, text):
    """SentencePiece's own mark for a space (U+2581) and what it reserves are characters like others."""
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert UNK not in ids and (not ids or min(ids) >= len(PIECES))


def test_the_mark_for_a_space_is_unknown_where_bytes_are(tmp_path):
    tokenizer = Tokenizer.train(["a red dot"] * 9, 40, tmp_path / "t.model", byte_fallback=False, exact=False)
    assert tokenizer.encode("red▁dot").count(UNK) == 1 and UNK not in tokenizer.encode("red dot")


@pytest.mark.parametrize("line", ["zebra▅quagga", "zebra quagga " * 90_000], ids=["reserved", "long"])
def test_every_line_is_learnt_from(tmp_path, line):
    """SentencePiece leaves out lines that hold a character of its own, or that are longer than a limit, and says nothing."""
    tokenizer = Tokenizer.train([line, "cat"], 290, tmp_path / "t.model", exact=False)
    assert len(tokenizer.encode("zebra quagga")) < 8 < len(tokenizer.encode("yonder fluxes"))


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
    message = r"^vocab_size=64: bytes, special pieces .* are 2\d\d pieces: give vocab_size=2\d\d or more$"
    with pytest.raises(ValueError, match=message):
        Tokenizer.train(["too little text"], 64, tmp_path / "small.model")
    with pytest.raises(ValueError, match="vocab_size=5000"):
        Tokenizer.train(["too little text"], 5000, tmp_path / "t.model")
    assert Tokenizer.train(["too little text"], 5000, tmp_path / "few.model", exact=False).vocab_size < 5000
    with pytest.raises(ValueError, match="cannot train"):
        Tokenizer.train([], 300, tmp_path / "t.model")
    assert not (tmp_path / "t.model").exists()
