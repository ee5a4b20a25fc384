import os

import pytest
import torch
from torch import nn

from muomni.checkpoints.export import load_export, save_export
from muomni.inference.decoding import aot_cache
from muomni.inference.decoding.compiled import Compiled, make_runtime, tokens_per_call
from muomni.inference.decoding.compiled_step import sample_by_settings, settings_tensor
from muomni.inference.decoding.generate import decode, generate, left_pad, prefill
from muomni.inference.decoding.int4 import Int4Linear
from muomni.inference.decoding.int8 import Int8Linear
from muomni.inference.decoding.options import preset
from muomni.inference.decoding.packed_linear import PackedLinear
from muomni.inference.decoding.runtime import Eager
from muomni.inference.decoding.sampling import INVALID_TOKEN, Sampler, sample_tokens
from muomni.inference.decoding.timings import Timings
from muomni.inference.decoding.weight_only import (
    DTYPES,
    HalfLinear,
    for_many_rows,
    set_weight_dtype,
    weight_dtype,
)
from muomni.inference.load import load_model
from tests.unit.inference.conftest import VOCAB, tiny_thinker


class Traced(Compiled):
    """The step as it is compiled, run operation by operation: what a compiler is given, without waiting for one."""

    def _jit(self, step, arguments):
        return lambda arguments: step(*arguments)

    _package = _jit


def traced(thinker, tmp_path, mode="max"):
    return Traced(thinker, mode=mode, packages=tmp_path)


def rows_of(*lengths):
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(9, VOCAB, (length,), generator=generator) for length in lengths]


@torch.inference_mode()
def run(runtime, rows, options, *, new):
    ids, padding = left_pad(rows)
    cache = runtime.new_cache(len(rows), ids.shape[1] + new)
    sampler = Sampler(options, device="cpu")
    logits = prefill(runtime.thinker, ids, cache, padding=padding)
    sampler.note(ids, VOCAB)
    decoder = runtime.decoder(cache, sampler=sampler, padding=padding, timings=Timings())
    tokens = generate(decoder, sampler(logits), limits=torch.full((len(rows),), new)).tokens
    return tokens, cache


GREEDY = preset("greedy")
OPTIONS = [
    GREEDY,
    preset("chat", seed=5),
    preset("balanced", temperature=1.3),
    preset("greedy", repetition_penalty=1.5),
    preset("chat", min_p=0.1, repetition_penalty=1.2, top_k=0, top_p=1.0),
]
SHAPES = [
    {},
    {"window": 8},
    {"qk_norm": True, "num_kv_heads": 4},
    {"tied": True, "short_conv": 0},
    {"rope_scaling": 2.0},
    {
        "window": 8,
        "full_attention": [1],
        "local_rope_theta": 500.0,
        "norm": "rms_offset",
        "output_norm": True,
        "head_dim": 12,
    },
    {
        "learned_positions": True,
        "rope_theta": None,
        "norm": "layer",
        "mlp": "gelu_tanh",
        "qkv_bias": True,
        "out_bias": True,
    },
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("lengths", [(5,), (3, 17, 9)])
def test_a_step_chooses_what_the_modules_choose_one_by_one(options, lengths, tmp_path):
    thinker, rows = tiny_thinker(), rows_of(*lengths)
    expected, _ = run(Eager(thinker), rows, options, new=41)
    for mode in ("default", "max"):
        got, _ = run(traced(thinker, tmp_path, mode), rows, options, new=41)
        assert torch.equal(got, expected)


@pytest.mark.parametrize("changes", SHAPES)
def test_every_shape_of_a_thinker_up_to_the_last_slot(changes, tmp_path):
    thinker, rows = tiny_thinker(**changes), rows_of(2)
    context = thinker.max_length
    expected, _ = run(Eager(thinker), rows, GREEDY, new=context - 1)
    got, cache = run(traced(thinker, tmp_path), rows, GREEDY, new=context - 1)
    assert torch.equal(got, expected)
    assert cache.position == context and len(got[0]) == context - 1


@torch.inference_mode()
def test_whoever_stops_inside_a_call_goes_on_from_that_token(tmp_path):
    thinker, (row,) = tiny_thinker(), rows_of(6)
    runtime = traced(thinker, tmp_path)
    caches = [runtime.new_cache(1, 64), thinker.new_cache(1)]
    for cache, kind in zip(caches, (runtime, Eager(thinker)), strict=True):
        first = prefill(thinker, row[None], cache).argmax(1)
        decoder = kind.decoder(cache, sampler=Sampler(GREEDY, device="cpu"), padding=None, timings=Timings())
        steps = decode(decoder, first, max_tokens=None)
        for _ in range(7):
            token = next(steps)
        steps.close()
    assert caches[0].position == caches[1].position == 6 + 6
    a, b = (prefill(thinker, token[None], cache) for cache in caches)
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_layers_in_half_precision_multiply_by_rounded_weights():
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(37, 24, generator=generator), torch.randn(2, 3, 24, generator=generator)
    half = HalfLinear(weight, torch.bfloat16)
    torch.testing.assert_close(half(x), x @ weight.bfloat16().float().T)


@pytest.mark.parametrize(
    ("dtype", "share", "far"),
    [("bfloat16", 0.5, 0.01), ("float16", 0.5, 0.01), ("int8", 0.45, 0.01), ("int4", 0.35, 0.1)],
)
def test_a_compact_thinker_is_smaller_and_nearly_the_same_and_compiles_to_the_same(dtype, share, far, tmp_path):
    whole, small = tiny_thinker(short_conv=0), tiny_thinker(short_conv=0)
    set_weight_dtype(small, dtype)
    linears = [layer for layer in small.modules() if isinstance(layer, HalfLinear | PackedLinear)]
    assert len(linears) == 2 * 4 + 1
    kept = sum(tensor.nbytes for layer in linears for tensor in layer.buffers())
    assert kept <= share * sum(4 * layer.weight.numel() for layer in whole.modules() if isinstance(layer, nn.Linear))
    ids = torch.stack(rows_of(12, 12))
    exact, near = whole(ids).logits.log_softmax(-1), small(ids).logits.log_softmax(-1)
    assert 0 < (exact.exp() * (exact - near)).sum(-1).mean() < far
    expected, _ = run(Eager(small), rows_of(7), GREEDY, new=30)
    got, _ = run(traced(small, tmp_path), rows_of(7), GREEDY, new=30)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8", "int4"])
def test_layers_with_biases_are_kept_small_too(dtype, tmp_path):
    """mlp=gelu"""
    whole, small = tiny_thinker(mlp="gelu"), tiny_thinker(mlp="gelu")
    for thinker in (whole, small):
        for name, parameter in thinker.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(len(name)))
    set_weight_dtype(small, dtype)
    ids = torch.stack(rows_of(12, 12))
    exact, near = whole(ids).logits.log_softmax(-1), small(ids).logits.log_softmax(-1)
    assert 0 < (exact.exp() * (exact - near)).sum(-1).mean() < 0.05
    expected, _ = run(Eager(small), rows_of(7), GREEDY, new=30)
    got, _ = run(traced(small, tmp_path), rows_of(7), GREEDY, new=30)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("tied", [False, True])
def test_transposed_weights_compute_the_same_and_the_rest_is_shared(tied):
    thinker, ids = tiny_thinker(tied=tied, mlp="gelu"), torch.arange(20, 26)[None]
    twin = for_many_rows(thinker)
    assert twin.embedding.weight is thinker.embedding.weight
    assert not any(isinstance(layer, nn.Linear) for layer in twin.modules())
    with torch.no_grad():
        torch.testing.assert_close(twin(ids).logits, thinker(ids).logits, rtol=1e-4, atol=1e-5)
    set_weight_dtype(thinker, "int8")
    assert any(isinstance(layer, Int8Linear) for layer in for_many_rows(thinker).modules())  # as they are


def test_what_cannot_be_is_said_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"compile=fast is unknown; available: none, default, max"):
        make_runtime(tiny_thinker(), mode="fast", packages=tmp_path)
    with pytest.raises(ValueError, match="mixture of experts: use compile=none"):
        make_runtime(tiny_thinker(num_experts=2, experts_per_token=1), mode="max", packages=tmp_path)
    with pytest.raises(ValueError, match=f"dtype=int3 is unknown; available: {', '.join(DTYPES)}"):
        set_weight_dtype(tiny_thinker(), "int3")


@pytest.mark.parametrize("tied", [False, True])
def test_the_head_of_four_bits_has_eight(tied):
    thinker = tiny_thinker(tied=tied)
    set_weight_dtype(thinker, "int4")
    kinds = {name: type(layer) for name, layer in thinker.named_modules() if isinstance(layer, PackedLinear)}
    assert kinds.pop("head") is Int8Linear and set(kinds.values()) == {Int4Linear}
    assert thinker.embedding.weight.dtype == torch.float32


def test_a_tied_head_is_known_by_both_its_names():
    thinker = tiny_thinker(tied=True)
    weights = aot_cache.weights_by_name(thinker)
    assert weights["head.weight"].data_ptr() == weights["embedding.weight"].data_ptr()
    assert set(thinker.state_dict()) <= set(weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "dtype", "changes"),
    [
        ("default", "float32", {}),
        ("default", "int8", {}),
        ("max", "float32", {}),
        ("max", "int8", {"tied": True, "short_conv": 0}),
        ("max", "int4", {}),
    ],
)
def test_a_thousand_greedy_tokens_are_those_of_the_modules(mode, dtype, changes, tmp_path):
    thinker = tiny_thinker(max_length=1100, **changes)
    set_weight_dtype(thinker, dtype)
    rows = rows_of(22)
    expected, _ = run(Eager(thinker), rows, GREEDY, new=1000)
    got, _ = run(make_runtime(thinker, mode=mode, packages=tmp_path), rows, GREEDY, new=1000)
    assert torch.equal(got, expected)
    assert len(set(got[0].tolist())) > 10


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "max"])
def test_ragged_samples_with_a_penalty_are_those_of_the_modules(mode, tmp_path):
    thinker, rows = tiny_thinker(window=16, qk_norm=True), rows_of(3, 17, 9)
    options = preset("chat", repetition_penalty=1.2, seed=3)
    expected, _ = run(Eager(thinker), rows, options, new=60)
    got, _ = run(make_runtime(thinker, mode=mode, packages=tmp_path), rows, options, new=60)
    assert torch.equal(got, expected)


@pytest.mark.slow
def test_a_package_is_found_again_may_be_deleted_and_serves_all_options_and_weights(tmp_path, monkeypatch):
    thinker, rows = tiny_thinker(short_conv=0), rows_of(5)
    expected, _ = run(Eager(thinker), rows, GREEDY, new=20)

    def decode_with(model):
        tokens, _ = run(make_runtime(model, mode="max", packages=tmp_path / "compiled"), rows, GREEDY, new=20)
        return tokens

    builds, build = [], aot_cache._build
    monkeypatch.setattr(aot_cache, "_build", lambda *arguments: (builds.append(arguments[-1]), build(*arguments)))
    assert torch.equal(decode_with(thinker), expected)
    assert torch.equal(decode_with(thinker), expected)
    assert len(builds) == 1 and list((tmp_path / "compiled").iterdir()) == builds
    builds[0].write_bytes(b"damaged")
    assert torch.equal(decode_with(thinker), expected)
    builds[0].unlink()
    assert torch.equal(decode_with(thinker), expected)
    assert len(builds) == 3
    # One package serves another model of the shape, every option, and prompts of any length together.
    other = tiny_thinker(short_conv=0)
    with torch.no_grad():
        other.head.weight.add_(torch.randn(other.head.weight.shape))
    for options in OPTIONS:
        runtime = make_runtime(other, mode="max", packages=tmp_path / "compiled")
        assert torch.equal(
            run(runtime, rows_of(60), options, new=60)[0], run(Eager(other), rows_of(60), options, new=60)[0]
        )
    assert len(builds) == 3 and len(list((tmp_path / "compiled").iterdir())) == 1


@pytest.mark.parametrize("lengths", [(5,), (3, 17, 9)])
def test_one_step_serves_all_options_and_capacities(lengths, tmp_path):
    runtime = traced(tiny_thinker(), tmp_path)
    for options in OPTIONS:
        for new in (8, 40, 100):
            run(runtime, rows_of(*lengths), options, new=new)
    assert len(runtime.calls) == 1


@pytest.mark.parametrize("seed", range(4))
def test_settings_choose_what_options_choose(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(64, 40, generator=generator)
    logits[5, 20], logits[6, 21], logits[7] = float("nan"), float("inf"), float("nan")
    seen = torch.rand(64, 40, generator=generator) < 0.3
    uniform = torch.rand(64, generator=generator)
    for options in [*OPTIONS, preset("chat", top_k=40), preset("chat", top_k=1), preset("chat", top_p=0.05, min_p=0.3)]:
        got = sample_by_settings(logits, settings_tensor(options, vocab_size=40), uniform=uniform, seen=seen)
        penal = seen if options.repetition_penalty != 1 else None
        assert torch.equal(got, sample_tokens(logits, options=options, uniform=uniform, seen=penal))
        assert got[5:8].eq(INVALID_TOKEN).all() and not got[8:].eq(INVALID_TOKEN).any()


def test_a_package_is_named_by_all_that_it_depends_on(monkeypatch):
    device, metadata = torch.device("cpu"), {"thinker": {"dim": 8}, "shape": [1, 128, 4]}
    name = aot_cache.package_name(metadata, device=device)
    assert name == aot_cache.package_name(dict(metadata), device=device)
    names = {name, aot_cache.package_name(metadata | {"thinker": {"dim": 16}}, device=device)}
    names.add(aot_cache.package_name(metadata | {"shape": [2, 128, 4]}, device=device))
    for change in ("capability", "source_digest"):
        with monkeypatch.context() as patch:
            patch.setattr(aot_cache, change, lambda *_: "another")
            names.add(aot_cache.package_name(metadata, device=device))
    monkeypatch.setattr(torch, "__version__", "9.9")
    names.add(aot_cache.package_name(metadata, device=device))
    assert len(names) == 6


def test_a_step_is_made_before_an_answer_begins(tmp_path):
    runtime, (row,) = traced(tiny_thinker(), tmp_path), rows_of(4)
    cache, sampler = runtime.new_cache(1, 40), Sampler(GREEDY, device="cpu")
    logits = prefill(runtime.thinker, row[None], cache)
    runtime.decoder(cache, sampler=sampler, padding=None, timings=Timings())
    assert len(runtime.calls) == 1 and logits.shape == (1, VOCAB)


def test_the_head_is_timed_where_it_is_a_separate_call(engine):
    assert engine.answer("tell me", max_new_tokens=3).timings.head > 0
    timings = Timings(new_tokens=4, model=1.0)
    assert "lm-head" not in timings.lines()[0]
    timings.head = 0.5
    assert "lm-head 500.0 ms" in timings.lines()[0]


@pytest.mark.slow
def test_an_engine_answers_by_torch_compile_which_compiles_before_the_answer_and_once(export, caplog):
    plain = load_model(export, device="cpu")
    compiled = load_model(export, device="cpu", compile="default")
    caplog.set_level("INFO")
    compiled.generate("tell me", max_new_tokens=1)
    ours = [
        record.message for record in caplog.records if record.name.startswith("muomni.")
    ]  # torch's own traces come too
    assert [message.split()[0] for message in ours] == ["compiling", "compiled"]
    with torch._dynamo.config.patch(error_on_recompile=True):
        for text in ("tell me", "what colour is the big red circle"):
            assert compiled.generate(text, max_new_tokens=70) == plain.generate(text, max_new_tokens=70)


@pytest.mark.parametrize("name", DTYPES)
def test_the_dtype_of_weights_is_known_afterwards(name):
    thinker = tiny_thinker()
    set_weight_dtype(thinker, name)
    assert weight_dtype(thinker) == name


def test_deep_steps_decode_fewer_tokens_a_call():
    assert [tokens_per_call(blocks) for blocks in (1, 4, 12, 16, 30, 100)] == [4, 4, 4, 3, 1, 1]


def test_what_a_killed_build_left_is_removed_and_a_running_one_stays(tmp_path):
    old, young, package = (tmp_path / name for name in (".building-a.pt2", ".building-b.pt2", "decode-cpu-1.pt2"))
    for path in (old, young, package):
        path.write_bytes(b"half")
    for path in (old, package):
        os.utime(path, (0, 0))
    aot_cache._clear_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([young, package])


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    runtime = make_runtime(tiny_thinker(), mode="max", packages=tmp_path / "file" / "compiled")
    with pytest.raises(ValueError, match=r"file/compiled: compiled steps cannot be kept there .*packages=DIR"):
        run(runtime, rows_of(4), GREEDY, new=8)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU: steps are recorded as CUDA graphs there")
@pytest.mark.parametrize("mode", ["default", "max"])
@torch.inference_mode()
def test_a_recorded_step_chooses_what_the_modules_choose(mode, tmp_path):
    thinker, ids = tiny_thinker().cuda(), torch.stack(rows_of(9, 9)).cuda()
    tokens = []
    for runtime in (Eager(thinker), make_runtime(thinker, mode=mode, packages=tmp_path)):
        cache, sampler = runtime.new_cache(2, 80), Sampler(preset("greedy", repetition_penalty=1.3), device="cuda")
        first = prefill(thinker, ids, cache).argmax(1)
        decoder = runtime.decoder(cache, sampler=sampler, padding=None, timings=Timings())
        tokens.append(generate(decoder, first, limits=torch.full((2,), 60, device="cuda")).tokens)
    assert torch.equal(*tokens)


def test_an_engine_is_loaded_compiled_or_compact_or_says_why_not(export, tmp_path):
    engine = load_model(export, device="cpu", compile="max", dtype="int8", packages=tmp_path)
    assert isinstance(engine.runtime, Compiled) and engine.runtime.packages == tmp_path
    assert isinstance(engine.modules["thinker"].head, Int8Linear)
    assert load_model(export, device="cpu", compile="default").runtime.packages is None
    with pytest.raises(ValueError, match="dtype=int3 is unknown"):
        load_model(export, device="cpu", dtype="int3")
    whole = load_export(export)
    voice = {name: whole.modules[name] for name in ("talker", "codec")}
    speaking = save_export(tmp_path / "talker", voice, metadata=whole.metadata, files={})
    with pytest.raises(ValueError, match="compile=max dtype=float32: this export has no Thinker"):
        load_model(speaking, device="cpu", compile="max")
