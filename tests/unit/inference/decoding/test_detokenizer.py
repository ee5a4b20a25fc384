import pytest

from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.decoding.detokenizer import Detokenizer


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
