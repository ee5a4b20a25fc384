"""Tokenizers of pretrained models: their texts in our ids, and back."""

import pickle
import random

import pytest
import torch

from muomni.frontends.hf_tokenizer_files import read_pretrained
from muomni.frontends.tokenizer import Tokenizer
from muomni.frontends.vocabulary_map import VocabularyMap
from muomni.inference.decoding.detokenizer import Detokenizer
from muomni.special_tokens import BOS, EOS, PAD, PIECES, UNK
from tests.unit.frontends.pretrained import families, lines, write

pytest.importorskip("tokenizers")
FAMILIES = ("gpt2", "qwen", "smollm2", "llama3", "llama2", "mistral", "gemma", "unigram")
SPECIAL = "<|im_end|> </s> <eos> <s> <|eot_id|> [INST]"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pretrained")
    return {name: write(root / name, *each) for name, each in families().items()}


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, folders):
    from tokenizers import Tokenizer as Library

    folder = folders[request.param]
    theirs = Library.from_file(str(folder / "tokenizer.json"))
    return Tokenizer(read_pretrained(folder)), theirs


def texts(*, seed: int) -> list[str]:
    draw = random.Random(seed)
    spans = [(0x20, 0x7F), (0xA0, 0x250), (0x400, 0x460), (0x4E00, 0x4E40), (0x1F600, 0x1F640)]
    made = ["".join(chr(draw.randrange(*draw.choice(spans))) for _ in range(draw.randrange(1, 24))) for _ in range(60)]
    blanks = [" ", "  two", "a  b", "\ttab", "a\n\nb \n", "ends ", "  ", "\n", "don't 1234 x"]
    return [*made, *lines()[:20], *blanks, SPECIAL]


def test_ids_are_theirs_further_back(pair):
    ours, theirs = pair
    theirs.encode_special_tokens = True
    for text in texts(seed=0):
        if text == SPECIAL and type(theirs.model).__name__ == "Unigram":
            continue  # finds </s> in it
        ids = ours.encode(text)
        assert [ours.vocabulary.sources[index] for index in ids] == theirs.encode(text, add_special_tokens=False).ids
        if UNK not in ids:
            assert ours.decode(ids) == theirs.decode(theirs.encode(text, add_special_tokens=False).ids)


def test_streamed_pieces_join_to_the_text(pair):
    """Of texts, and of tokens that make none: bytes that are no characters, special tokens."""
    ours, _ = pair
    draw = random.Random(1)
    rows = [ours.encode(text) for text in texts(seed=2)]
    rows += [[draw.randrange(ours.vocab_size) for _ in range(30)] for _ in range(80)]
    for ids in rows:
        for stop in ((), ("\x00never",)):
            stream = Detokenizer(ours, stop=stop)
            assert "".join([*map(stream.push, ids), stream.close()]) == ours.decode(ids)


def test_pieces_spell_the_text(pair):
    ours, _ = pair
    for text in texts(seed=3):
        ids = ours.encode(text)
        spelt = b"".join(ours.token_bytes(index, first=number == 0) for number, index in enumerate(ids))
        assert spelt.decode(errors="replace") == ours.decode(ids)


def test_texts_that_follow_each_other_are_apart(pair):
    ours, _ = pair
    assert ours.decode(ours.encode("the cat") + ours.encode_next("is red")) == "the cat is red"


def test_written_special_tokens_are_text(pair):
    ours, _ = pair
    ids = ours.encode(SPECIAL)
    assert not any(ours.is_special(index) for index in ids if index != UNK)


def test_it_travels(pair, tmp_path):
    ours, _ = pair
    ours.save(tmp_path / ours.file_name)
    for other in (Tokenizer.load(tmp_path / "tokenizer.json"), pickle.loads(pickle.dumps(ours))):
        assert other.encode("the cat 😀") == ours.encode("the cat 😀") and other.fingerprint() == ours.fingerprint()


def test_special_tokens_have_our_ids(folders):
    named = {"qwen": ("<|im_end|>", None, "<|endoftext|>"), "llama3": ("<|eot_id|>", "<|begin_of_text|>", None)}
    named |= {"gemma": ("<end_of_turn>", "<bos>", "<pad>"), "gpt2": ("<|endoftext|>", None, None)}
    for name, (eos, bos, pad) in named.items():
        ours = Tokenizer(read_pretrained(folders[name]))
        assert [ours.piece(index) for index in (EOS, BOS, PAD)] == [eos, bos or "<s>", pad or "<pad>"]
        assert ours.special_ids[eos] == EOS and ours.decode([EOS, BOS, PAD, 4, 7]) == ""
        assert ours.encode("", bos=True, eos=True) == [BOS, EOS]
        begins = name in ("llama3", "gemma")
        assert ours.encode("a", bos=True)[0] == (BOS if begins else ours.encode("a")[0])


def test_rows_there_and_back(folders):
    ours = Tokenizer(read_pretrained(folders["gemma"], rows=512))
    rows = torch.randn(512, 8, dtype=torch.bfloat16)
    inside = ours.vocabulary.into(rows)
    assert inside.shape == (ours.vocab_size, 8) and ours.vocab_size == 512 + len(PIECES) - 4
    assert torch.equal(ours.vocabulary.back(inside), rows)
    assert torch.equal(ours.vocabulary.logits(inside.T), rows.T)
    for index in ours.vocabulary.added:
        torch.testing.assert_close(inside[index].float(), rows.float().mean(0), atol=4e-3, rtol=0)


def test_a_token_of_several_roles_has_one_row():
    both = VocabularyMap(5, {"eos": 3, "bos": 3})
    rows = torch.arange(5.0)[:, None]
    inside = both.into(rows)
    assert both.added == (UNK, BOS, PAD, 4, 5, 6, 7, 8) and inside[BOS] == inside[EOS] == 3
    inside[BOS] += 1
    assert torch.equal(both.back(inside), rows) and both.places == [9, 10, 11, EOS, 12]
