"""llama.cpp reads what we write: the same greedy tokens and the same tokenisation. Needs llama-cpp-python or llama-server."""

import json

import pytest
from safetensors.torch import save_file

from muomni.checkpoints.export import load_export
from muomni.frontends.tokenizer import Tokenizer
from muomni.interop.gguf.exporting import export_gguf
from muomni.interop.gguf.vocabulary import of_tokenizer_json
from muomni.interop.gguf.writing import Text, write_gguf
from muomni.interop.hf.exporting import ABOUT
from muomni.interop.hf.importing import import_thinker
from muomni.interop.hf.thinker import to_hf
from muomni.interop.hf.thinker_out import to_transformers
from muomni.special_tokens import EOS
from tests.unit.frontends.pretrained import byte_level
from tests.unit.frontends.pretrained import write as write_tokenizer
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


def test_what_was_imported_leaves_for_llama_cpp(tmp_path, llama_cpp):
    """A folder of Qwen2's classes -> an export -> a GGUF: tokens and answers are those of the export, in their ids."""
    folder, words = tmp_path / "theirs", byte_level(["<|endoftext|>"], split=True)
    write_tokenizer(folder, words, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"})
    config, tensors = to_hf(make_thinker(vocab_size=words.get_vocab_size(), qkv_bias=True))
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    import_thinker(folder, tmp_path / "ours")
    export_gguf(tmp_path / "ours", tmp_path / "a.gguf", dtype="f32", about=ABOUT)
    ours = load_export(tmp_path / "ours")
    tokenizer, thinker = Tokenizer(ours.tokenizer), ours.modules["thinker"]
    sources = tokenizer.vocabulary.sources
    with llama_cpp(tmp_path / "a.gguf") as llama:
        for text in TEXTS:
            assert llama.tokenize(text) == [sources[index] for index in tokenizer.encode(text)], text
        prompt = tokenizer.encode("the red dot is")
        wanted = [sources[index] for index in greedy(thinker, prompt, 60)]
        eos = sources[EOS]
        assert llama.greedy([sources[index] for index in prompt], 60, forbidden=[eos]) == wanted


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
