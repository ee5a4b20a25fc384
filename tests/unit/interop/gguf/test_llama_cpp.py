"""llama.cpp reads what we write: the same greedy tokens and the same tokenisation. Needs llama-cpp-python or llama-server."""

import json

import pytest

from muomni.interop.gguf.vocabulary import of_tokenizer_json
from muomni.interop.gguf.writing import Text, write_gguf
from muomni.interop.hf.thinker_out import to_transformers
from tests.unit.interop.gguf.conftest import VARIANTS, greedy, make_thinker
from tests.unit.interop.gguf.test_vocabulary import trained
from tests.unit.interop.gguf.test_writing import write

pytest.importorskip("gguf")
TEXTS = [
    "the red circle", "  two  spaces and\ttabs\n\n", "GRÜN naïve Äpfel", "12345 and 6,789.50", "don't WON'T we'll",
    "日本語 \U0001f389", "<user> is text", "",
]  # fmt: skip


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_the_same_greedy_tokens(tmp_path, llama_cpp, tokenizer, tokenizer_path, options):
    write(tmp_path / "a.gguf", tokenizer_path=tokenizer_path, **options)
    prompt = tokenizer.encode("the red circle is above")
    with llama_cpp(tmp_path / "a.gguf") as llama:
        assert llama.greedy(prompt, 100) == greedy(make_thinker(**options), prompt, 100)


def test_the_same_tokens_of_text(tmp_path, llama_cpp, tokenizer, tokenizer_path):
    write(tmp_path / "a.gguf", tokenizer_path=tokenizer_path)
    with llama_cpp(tmp_path / "a.gguf") as llama:
        for text in TEXTS:
            assert llama.tokenize(text) == tokenizer.encode(text), text
        whole = [1, 4, *tokenizer.encode("a question"), 5]
        assert llama.tokenize("<s><user>a question<assistant>", special=True) == whole


@pytest.mark.parametrize("name", ["smollm", "qwen2"])
def test_the_same_tokens_of_text_by_bytes(tmp_path, llama_cpp, name):
    tokenizer = trained(name)
    parts = to_transformers(make_thinker())
    vocabulary = of_tokenizer_json(json.loads(tokenizer.to_str())).fitted(320)
    text = Text(vocabulary=vocabulary, special={"bos": 0, "eos": 0}, add_bos=False)
    write_gguf(tmp_path / "a.gguf", config=parts.config, tensors=parts.tensors, dtype="f16", text=text, about={})
    with llama_cpp(tmp_path / "a.gguf") as llama:
        for text in TEXTS:
            assert llama.tokenize(text) == tokenizer.encode(text, add_special_tokens=False).ids, text
