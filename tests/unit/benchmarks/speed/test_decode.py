from types import SimpleNamespace

import pytest
import torch

from benchmarks.speed import decode, decode_more
from benchmarks.speed.decoders import LlamaCpp, Ours, Transformers, write_gguf
from muomni.checkpoints.export import save_export
from muomni.interop.gguf.tensors import interleaved
from muomni.interop.hf.thinker import to_hf
from muomni.models.thinker import Thinker
from muomni.nn.rope import Rope, rotate
from muomni.special_tokens import PIECES


def llama_shaped() -> Thinker:
    torch.manual_seed(0)
    thinker = Thinker(
        vocab_size=320, dim=64, num_layers=2, num_heads=4, num_kv_heads=2, ff_dim=96, max_length=64
    )  # fmt: skip
    thinker.requires_grad_(False).eval().head.weight[: len(PIECES)] = 0
    return thinker


def test_interleaved_rows_turn_with_their_neighbours_as_halves_turn_with_each_other():
    heads, width = 2, 8
    weight, x = torch.randn(heads * width, 5), torch.randn(3, 5)
    cos, sin = Rope(width, theta=100.0)(torch.arange(3))
    halves = rotate((x @ weight.T).view(1, 3, heads, width).transpose(1, 2), cos, sin)
    pairs = (x @ interleaved(weight, heads).T).view(1, 3, heads, width // 2, 2).transpose(1, 2)
    even, odd = pairs.unbind(-1)
    turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1)
    torch.testing.assert_close(turned.transpose(-1, -2).flatten(-2), halves)


def test_every_weight_of_a_thinker_has_its_place_in_a_llama():
    thinker = llama_shaped()
    _, state = to_hf(thinker)
    assert sum(weight.numel() for weight in state.values()) == sum(weight.numel() for weight in thinker.parameters())


def test_an_absent_peer_is_named_with_its_command(monkeypatch):
    monkeypatch.setattr(decode.importlib.util, "find_spec", lambda name: None if name == "gguf" else object())
    assert decode.missing("transformers") == ""
    assert decode.missing("llama_cpp", "gguf") == "not installed: pip install gguf"


def test_the_floor_counts_all_weights_but_the_table_of_embeddings():
    thinker = llama_shaped()
    everything = sum(4 * weight.numel() for weight in thinker.parameters())
    assert decode.weight_bytes(thinker) == everything - 4 * 320 * 64


@torch.inference_mode()
def test_a_model_does_not_diverge_from_itself_and_less_the_more_bits_its_weights_have():
    pytest.importorskip("gguf", reason="pip install gguf")
    exact, ids = llama_shaped(), torch.arange(40)[None] + len(PIECES)
    assert decode_more.divergence(exact, exact, ids)["kl"] == 0
    found = []
    for dtype in decode_more.LLAMA_CPP:
        near = llama_shaped()
        decode_more.as_llama_cpp(near, dtype)
        found.append(decode_more.divergence(exact, near, ids)["kl"])
    q8_0, q4_0, q4_1 = found
    assert 0 < q8_0 < 1e-3 and 10 * q8_0 < q4_1 < q4_0 < 0.05


def test_small_weights_are_compared_or_it_is_said_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    decode.main(["kl=true", f"root={tmp_path}"])
    assert "small weights: no trained Thinker: trained=EXPORT" in capsys.readouterr().out
    save_export(tmp_path / "checkpoints/thinker", {"thinker": llama_shaped()}, metadata={}, files={})
    monkeypatch.setattr(decode_more, "SAMPLES", 2)
    monkeypatch.setattr(decode_more, "LENGTH", 16)
    decode.main(["kl=true", f"root={tmp_path}"])
    out = capsys.readouterr().out
    assert "32 tokens drawn from checkpoints/thinker" in out
    assert [line for line in out.splitlines() if line.strip().startswith(("int8 ", "int4 ", "int4, the head too "))]


@pytest.mark.slow
def test_the_peers_choose_the_tokens_of_the_modules(tmp_path):
    pytest.importorskip("transformers", reason="pip install transformers")
    pytest.importorskip("llama_cpp", reason="pip install llama-cpp-python")
    thinker, ids = llama_shaped(), torch.arange(20).view(2, 10) + len(PIECES)
    expected = Ours(thinker, mode="none", packages=tmp_path)(ids, 16).tokens
    assert torch.equal(Transformers(thinker)(ids, 16).tokens, expected)
    write_gguf(thinker, tmp_path / "F32.gguf", "F32")
    llama = LlamaCpp(tmp_path / "F32.gguf", batch=2, context=64, vocab_size=320, threads=1)
    assert torch.equal(llama(ids, 16).tokens, expected)
    llama.close()


@pytest.mark.slow
def test_a_race_of_what_needs_no_compiler(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "OURS", {"eager": ("none", "float32")})
    options = SimpleNamespace(size="nano", root=str(tmp_path), prompt=4, new=6, rounds=2, only=())
    threads, affinity = torch.get_num_threads(), decode.os.sched_getaffinity(0)
    try:
        result = decode.race(options, batch=2, threads=1)
    finally:
        torch.set_num_threads(threads)
        decode.os.sched_setaffinity(0, affinity)
    assert result["decoders"]["eager"]["same_tokens"] == 1
    assert "not of Llama's shape" in decode.show(result)
