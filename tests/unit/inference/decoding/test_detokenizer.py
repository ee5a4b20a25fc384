import random

import pytest
import sentencepiece

from muomni.frontends.special_pieces import with_special_pieces
from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.decoding.detokenizer import INCOMPLETE, Detokenizer, find_stop


class Whole:
    """What a `Detokenizer` returns, by decoding all ids at every token."""

    def __init__(self, tokenizer, *, stop):
        self.tokenizer, self.stop, self.ids, self.emitted, self.stopped = tokenizer, stop, [], 0, False

    def push(self, token):
        self.ids.append(token)
        text = self.tokenizer.decode(self.ids)
        end = find_stop(text, self.stop)
        if end is not None:
            self.stopped = True
            return self.emit(text, end)
        text = text.rstrip(INCOMPLETE)
        partial = [n for n in range(1, len(text) + 1) if any(len(w) > n and w.startswith(text[-n:]) for w in self.stop)]
        return self.emit(text, len(text) - max(partial, default=0))

    def close(self):
        text = self.tokenizer.decode(self.ids)
        return "" if self.stopped else self.emit(text, len(text))

    def emit(self, text, end):
        piece, self.emitted = text[self.emitted : end], max(self.emitted, end)
        return piece


@pytest.fixture(scope="module", params=["own", "extra spaces removed", "no space before", "without bytes"])
def tokenizer(request, tokenizer_path, tmp_path_factory):
    """As trained here, and as others train them."""
    if request.param == "own":
        return Tokenizer.load(tokenizer_path)
    options = {
        "extra spaces removed": {"remove_extra_whitespaces": True, "byte_fallback": True},
        "no space before": {"add_dummy_prefix": False, "byte_fallback": True},
        "without bytes": {"byte_fallback": False},
    }[request.param]
    prefix = tmp_path_factory.mktemp("tokenizer") / "other"
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(["what colour  is the big red circle", "a small blue square \ufffd", "tell me 1 2 3"] * 20),
        model_prefix=str(prefix), vocab_size=330, model_type="bpe", hard_vocab_limit=False, minloglevel=3, **options,
    )  # fmt: skip
    return Tokenizer(with_special_pieces(prefix.with_suffix(".model").read_bytes())[0])


TEXTS = [
    "the big red circle",
    "μOmni 漢字 🙂 ok",
    "  a\n b   c ",
    "🙂🙂🙂 🙂",
    "\ufffd a \ufffd\ufffd",
    "redred circle cir",
]
STOPS = [
    (),
    ("red c", "zzz"),
    ("e",),
    ("🙂 ", "字"),
    (" ", "ab"),
    ("\ufffd",),
    ("aa", "aab"),
    ("circle c", "ircl", "le"),
]


def random_ids(tokenizer, rng):
    """Of texts, of single bytes, cut off anywhere, special tokens among them."""
    spaces = [index for index in range(tokenizer.vocab_size) if not tokenizer.piece(index).strip("▁")]
    ids = []
    for _ in range(rng.randint(1, 6)):
        kind = rng.randrange(4)
        if kind == 0:
            ids += tokenizer.encode(rng.choice(TEXTS))
        elif kind == 1:
            ids += rng.choices(range(tokenizer.vocab_size), k=rng.randint(1, 5))
        elif kind == 2:
            encoded = tokenizer.encode(rng.choice(TEXTS))
            begin = rng.randrange(len(encoded))
            ids += encoded[begin : begin + rng.randint(1, 4)]
        else:
            ids += rng.choices([*spaces, rng.randrange(9)], k=rng.randint(1, 3))
    return ids


def test_the_pieces_are_those_of_decoding_everything_at_every_token(tokenizer):
    rng = random.Random(0)
    for _ in range(300):
        ids, stop = random_ids(tokenizer, rng), rng.choice(STOPS)
        stream, whole = Detokenizer(tokenizer, stop=stop), Whole(tokenizer, stop=stop)
        for token in ids:
            assert stream.push(token) == whole.push(token), (ids, stop)
            assert stream.stopped == whole.stopped
            if stream.stopped:
                break
        assert stream.close() == whole.close(), (ids, stop)


def test_a_token_costs_no_more_at_the_end_of_a_long_answer(tokenizer_path):
    tokenizer = Tokenizer.load(tokenizer_path)
    stream, decoded = Detokenizer(tokenizer, stop=("red square",)), []
    decode, tokenizer.decode = tokenizer.decode, lambda ids: (decoded.append(len(ids)), decode(ids))[1]
    for token in tokenizer.encode("the big red circle μOmni 漢字 🙂 " * 50):
        stream.push(token)
    assert max(decoded) <= 8 and len(stream.text) < 20


@pytest.mark.parametrize("text", ["the big red circle", "μOmni 漢字 🙂 ok", "a\n b  c", "", "🙂"])
def test_the_pieces_join_to_the_text(tokenizer_path, text):
    tokenizer = Tokenizer.load(tokenizer_path)
    stream = Detokenizer(tokenizer, stop=())
    pieces = [stream.push(token) for token in tokenizer.encode(text)]
    assert "".join(pieces) + stream.close() == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_bytes_that_never_complete_show_at_the_end(tokenizer_path):
    tokenizer = Tokenizer.load(tokenizer_path)
    stream = Detokenizer(tokenizer, stop=())
    ids = tokenizer.encode("a🙂")[:-1]
    pieces = [stream.push(token) for token in ids]
    assert "".join(pieces) + stream.close() == tokenizer.decode(ids)


def test_a_stop_string_ends_the_text_and_is_never_shown(tokenizer_path):
    tokenizer = Tokenizer.load(tokenizer_path)
    stream = Detokenizer(tokenizer, stop=["red c", "zzz"])
    pieces = []
    for token in tokenizer.encode("the big red circle is"):
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    assert stream.stopped
    assert "".join(pieces) + stream.close() == "the big "


def test_what_only_looked_like_a_stop_string_is_shown(tokenizer_path):
    tokenizer = Tokenizer.load(tokenizer_path)
    stream = Detokenizer(tokenizer, stop=["red square"])
    pieces = [stream.push(token) for token in tokenizer.encode("a red circle")]
    assert "".join(pieces) + stream.close() == "a red circle"
