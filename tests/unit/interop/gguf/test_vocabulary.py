"""Tokenizers for llama.cpp: types and scores of SentencePiece, names of byte-level splittings; what it has not is refused."""

import json

import pytest

from muomni.frontends.tokenizer import Tokenizer
from muomni.interop.gguf.pre_tokenizers import SPLITS, pre_tokenizer
from muomni.interop.gguf.vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, of_sentencepiece, of_tokenizer_json
from tests.unit.interop.gguf.conftest import WORDS


def byte_level(*steps, use_regex):
    last = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [*steps, last]} if steps else last}


def split(regex):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def test_pieces_of_sentencepiece(tokenizer_path):
    found = of_sentencepiece(tokenizer_path.read_bytes())
    assert found.model == "llama"
    assert found.space_prefix
    assert found.pieces[9] == "<0x00>"
    assert found.types[:2] == [UNKNOWN, CONTROL]
    assert (found.types[9], found.types[-1]) == (BYTE, NORMAL)
    assert found.scores[300] > found.scores[301]
    wider = found.fitted(322)
    assert wider.pieces[-2:] == ["[PAD320]", "[PAD321]"]
    assert wider.types[-1] == UNUSED
    assert len(wider.scores) == 322
    with pytest.raises(ValueError, match="320 pieces, the embedding 300 rows"):
        found.fitted(300)


def test_sentencepiece_that_llama_cpp_reads_otherwise_is_refused(tmp_path):
    Tokenizer.of_characters("abc", tmp_path / "a.model")
    with pytest.raises(ValueError, match="char model"):
        of_sentencepiece((tmp_path / "a.model").read_bytes())
    Tokenizer.train([WORDS], 60, tmp_path / "b.model", byte_fallback=False, exact=False)
    with pytest.raises(ValueError, match="no pieces for bytes"):
        of_sentencepiece((tmp_path / "b.model").read_bytes())


def test_splittings_have_names():
    assert pre_tokenizer(byte_level(use_regex=True)) == "gpt-2"
    assert pre_tokenizer(byte_level({"type": "Digits", "individual_digits": True}, use_regex=True)) == "smollm"
    for regex, name in SPLITS.items():
        assert pre_tokenizer(byte_level(split(regex), use_regex=False)) == name
    assert pre_tokenizer(byte_level(use_regex=True) | {"normalizer": {"type": "NFC"}}) == "gpt-2"


@pytest.mark.parametrize(
    "document",
    [
        {"pre_tokenizer": {"type": "Whitespace"}},
        {},
        byte_level(split(r"\w+"), use_regex=False),
        byte_level({"type": "Digits", "individual_digits": False}, use_regex=True),
        byte_level(use_regex=True) | {"normalizer": {"type": "Lowercase"}},
    ],
)
def test_a_splitting_without_a_name_is_refused(document):
    with pytest.raises(ValueError, match="llama.cpp has no"):
        pre_tokenizer(document)


def trained(pre_name):
    tokenizers = pytest.importorskip("tokenizers")
    pre = tokenizers.pre_tokenizers
    steps = {name: pre.Split(tokenizers.Regex(regex), "isolated") for regex, name in SPLITS.items()}
    steps["smollm"] = pre.Digits(individual_digits=True)
    last = pre.ByteLevel(add_prefix_space=False, use_regex=pre_name in ("gpt-2", "smollm"))
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = pre.Sequence([steps[pre_name], last]) if pre_name in steps else last
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=310, special_tokens=["<|endoftext|>", "<|im_end|>"], initial_alphabet=pre.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    model.train_from_iterator([WORDS] * 3, trainer)
    return model


@pytest.mark.parametrize("name", ["gpt-2", "smollm", *SPLITS.values()])
def test_byte_level_pieces(name):
    tokenizer = trained(name)
    found = of_tokenizer_json(json.loads(tokenizer.to_str()))
    assert (found.model, found.pre, found.scores) == ("gpt2", name, [])
    assert found.pieces == [tokenizer.id_to_token(index) for index in range(tokenizer.get_vocab_size())]
    assert found.types[:3] == [CONTROL, CONTROL, NORMAL]
    assert " " in found.merges[0]


def test_a_tokenizer_json_of_sentencepiece_becomes_one_again():
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "a", "b", "ab", "aba"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    model = {"type": "BPE", "byte_fallback": True, "unk_token": "<unk>", "vocab": vocab}
    model["merges"] = [["a", "b"], ["ab", "a"]]
    document = {
        "model": model, "added_tokens": [{"id": 1, "content": "<s>", "special": True}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend"}, {"type": "Replace"}]},
    }  # fmt: skip
    found = of_tokenizer_json(document)
    assert found.model == "llama"
    assert found.space_prefix
    assert found.types[:3] == [UNKNOWN, CONTROL, BYTE]
    assert found.scores[260:] == [0.0, -1.0]
    vocab["ba"] = 262
    with pytest.raises(ValueError, match="no merge of 'a' and 'ba'"):
        of_tokenizer_json(document)
    with pytest.raises(ValueError, match="Unigram"):
        of_tokenizer_json({"model": {"type": "Unigram", "vocab": []}})
