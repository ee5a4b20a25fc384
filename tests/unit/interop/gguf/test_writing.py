"""What is in a GGUF file, by the package's own reader: every tensor bit for bit, and what the file says of itself."""

import numpy as np
import pytest
import torch

from muomni.interop.gguf.tensors import halved, interleaved, rotated_heads, stored
from muomni.interop.gguf.vocabulary import of_sentencepiece
from muomni.interop.gguf.writing import Text, write_gguf
from muomni.interop.hf.thinker_out import to_transformers
from muomni.special_tokens import BOS, EOS
from tests.unit.interop.gguf.conftest import SUPPRESSED, VARIANTS, make_thinker

gguf = pytest.importorskip("gguf")
ABOUT = {"name": "a model", "author": "someone", "description": "small", "license": "mit", "languages": ["en"]}
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "mlp.down_proj": "ffn_down",
    "self_attn.q_norm": "attn_q_norm",
}  # fmt: skip


def write(path, *, dtype="f32", tokenizer_path=None, **options):
    parts = to_transformers(make_thinker(**options))
    text = None
    if tokenizer_path is not None:
        text = Text(
            vocabulary=of_sentencepiece(tokenizer_path.read_bytes()), special={"bos": BOS, "eos": EOS}, add_bos=True,
            chat_template="x", suppressed=SUPPRESSED,
        )  # fmt: skip
    write_gguf(path, config=parts.config, tensors=parts.tensors, dtype=dtype, text=text, about=ABOUT)
    return parts, gguf.GGUFReader(path)


def values(reader):
    return {each.name: gguf.dequantize(each.data, each.tensor_type) for each in reader.tensors}


def field(reader, key):
    return reader.fields[key].contents()


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_every_tensor_is_there_bit_for_bit(tmp_path, options):
    parts, reader = write(tmp_path / "a.gguf", **options)
    found = values(reader)
    assert sum(each.size for each in found.values()) == sum(each.numel() for each in parts.tensors.values())
    np.testing.assert_array_equal(found["token_embd.weight"], parts.tensors["model.embed_tokens.weight"].numpy())
    assert ("output.weight" in found) != bool(options.get("tied"))
    for theirs, ours in NAMES.items():
        name = f"model.layers.1.{theirs}.weight"
        if name in parts.tensors:
            heads = rotated_heads(name, parts.config)
            tensor = torch.from_numpy(found[f"blk.1.{ours}.weight"].copy())
            torch.testing.assert_close(halved(tensor, heads) if heads else tensor, parts.tensors[name], rtol=0, atol=0)
    if options.get("num_experts"):
        names = ("model.layers.0.mlp.experts.2.gate_proj.weight", "model.layers.0.block_sparse_moe.experts.2.w1.weight")
        third = next(parts.tensors[name] for name in names if name in parts.tensors)
        np.testing.assert_array_equal(found["blk.0.ffn_gate_exps.weight"][2], third.numpy())


def test_rows_of_llama_change_places_and_back():
    rows = torch.arange(8.0)[:, None].repeat(1, 3)
    assert interleaved(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    torch.testing.assert_close(halved(interleaved(rows, 2), 2), rows, rtol=0, atol=0)
    torch.testing.assert_close(halved(interleaved(rows[:, 0], 2), 2), rows[:, 0], rtol=0, atol=0)


@pytest.mark.parametrize(("dtype", "bound"), [("f16", 1e-3), ("bf16", 8e-3), ("q8_0", 1e-2)])
def test_smaller_numbers_are_near(tmp_path, dtype, bound):
    parts, reader = write(tmp_path / "a.gguf", dtype=dtype, qk_norm=True, num_experts=4)
    found, types = values(reader), {each.name: each.tensor_type.name for each in reader.tensors}
    wanted = parts.tensors["model.embed_tokens.weight"].numpy()
    assert types["token_embd.weight"] == dtype.upper()
    assert types["output_norm.weight"] == types["blk.0.ffn_gate_inp.weight"] == "F32"
    assert np.abs(found["token_embd.weight"] - wanted).max() <= bound * np.abs(wanted).max()
    assert reader.fields["general.file_type"].contents() == gguf.LlamaFileType[f"MOSTLY_{dtype.upper()}"]


def test_rows_that_no_block_fits_stay_in_half_precision():
    assert stored("a.weight", (8, 48), "q8_0") == "f16"
    assert stored("a.weight", (8, 64), "q8_0") == "q8_0"
    assert stored("a.bias", (64,), "q8_0") == stored("blk.0.ffn_gate_inp.weight", (4, 64), "q8_0") == "f32"


def test_the_file_says_what_it_is(tmp_path, tokenizer, tokenizer_path):
    _, reader = write(tmp_path / "a.gguf", tokenizer_path=tokenizer_path, qk_norm=True)
    assert field(reader, "general.architecture") == "qwen3"
    assert field(reader, "general.name") == "a model"
    assert field(reader, "general.license") == "mit"
    assert field(reader, "general.languages") == ["en"]
    assert field(reader, "qwen3.context_length") == 256
    assert field(reader, "qwen3.attention.head_count_kv") == 2
    assert field(reader, "qwen3.attention.key_length") == 16
    assert field(reader, "tokenizer.ggml.model") == "llama"
    assert field(reader, "tokenizer.chat_template") == "x"
    assert field(reader, "tokenizer.ggml.tokens") == [tokenizer.piece(index) for index in range(tokenizer.vocab_size)]
    assert field(reader, "tokenizer.ggml.bos_token_id") == BOS
    assert field(reader, "tokenizer.ggml.add_bos_token") is True
    assert field(reader, "tokenizer.ggml.suppress_tokens") == SUPPRESSED


@pytest.mark.parametrize(
    ("options", "message"),
    [({"window": 16}, "window=16"), ({"short_conv": 4}, "short_conv=4"), ({"mlp": "gelu"}, "mlp=gelu")],
)
def test_what_llama_cpp_has_not_is_refused_by_name(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "a.gguf", **options)


def test_an_unknown_dtype_is_named(tmp_path):
    with pytest.raises(ValueError, match="dtype=q4_k: available are f32, f16, bf16, q8_0"):
        write(tmp_path / "a.gguf", dtype="q4_k")
