"""A block for one token of one row, and the Talker and the Thinker that decode by it."""

import ctypes
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muomni.inference.decoding import row_blocks
from muomni.inference.decoding.generate import decode, decode_step, prefill
from muomni.inference.decoding.native import library
from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.decoding.row_blocks import RowLinear, RowTransformer, is_plain, with_row_blocks
from muomni.inference.decoding.runtime import Eager
from muomni.inference.decoding.sampling import Sampler
from muomni.inference.decoding.timings import Timings
from muomni.inference.decoding.weight_only import set_weight_dtype
from muomni.inference.scheduling.speech_slots import SpeechSlots
from muomni.inference.scheduling.steps import Steps
from muomni.inference.tts.frame_choice import FrameChooser, greedy_frames
from muomni.inference.tts.frame_decoder import FrameDecoder, first_frames
from muomni.models.talker import Talker
from muomni.models.thinker import Thinker
from muomni.nn.attention import Attention
from muomni.nn.cache import KVCache
from muomni.nn.context import AttentionContext
from muomni.nn.mlp import GeGLU, SwiGLU
from muomni.nn.norm import OffsetRMSNorm, RMSNorm
from muomni.nn.rope import Rope
from muomni.nn.transformer import stack
from muomni.special_tokens import IMAGE

needs_compiler = pytest.mark.skipif(not library.available(), reason="no C++ compiler")
NORM = partial(RMSNorm, eps=1e-6)
#: What a Thinker's blocks have and a Talker's have not.
OPTIONS = [{}, {"qk_norm": NORM}, {"short_conv": 4}, {"qk_norm": NORM, "short_conv": 2}]


def network(dim, heads, kv_heads, hidden, *, layers=2, mlp=SwiGLU, head_dim=None, **options):
    torch.manual_seed(dim + hidden)
    network = stack(
        layers, dim, mlp=lambda width: mlp(width, hidden=hidden), dropout=0.0, norm_eps=1e-5,
        attention=lambda width, **each: Attention(
            width, heads=heads, kv_heads=kv_heads, causal=True, head_dim=head_dim, **each, **options
        ),
    )  # fmt: skip
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.eval().requires_grad_(False)


def new_cache(network, capacity, rows=1):
    attention = network.blocks[0].attention
    return KVCache(
        num_layers=len(network.blocks), batch_size=rows, num_kv_heads=attention.kv_heads, capacity=capacity,
        head_dim=attention.head_dim, dtype=torch.float32, device="cpu",
        conv_dim=0 if attention.short_conv is None else attention.short_conv.weight.shape[1],
    )  # fmt: skip


@torch.inference_mode()
def run(transformer, whole, tokens, first, capacity):
    """Hidden states of tokens (T, D) that are read one by one after the `first` ones, and the cache."""
    cache, rope = new_cache(whole, capacity), Rope(whole.blocks[0].attention.head_dim, theta=10000.0)
    parts = [tokens[:first], *tokens[first:].split(1)] if first else tokens.split(1)
    hidden = []
    for part in parts:
        positions = cache.position + torch.arange(len(part))
        hidden.append(transformer(part[None], AttentionContext(rope(positions + 0.25), cache=cache)).hidden[0])
    return torch.cat(hidden), cache


@needs_compiler
@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([(24, 2, 2, 32), (192, 3, 3, 96), (64, 4, 2, 40), (20, 2, 1, 7), (16, 4, 4, 16)]),
    st.sampled_from(OPTIONS), st.integers(1, 40), st.integers(0, 12), st.sampled_from([1e-3, 1.0, 30.0]),
)  # fmt: skip
def test_it_computes_what_the_blocks_compute(shape, options, count, first, scale):
    whole = network(*shape, **options)
    tokens = scale * torch.randn(count, shape[0], generator=torch.Generator().manual_seed(count))
    ours, cache = run(RowTransformer(whole), whole, tokens, min(first, count), count)
    expected, other = run(whole, whole, tokens, min(first, count), count)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(cache.keys, other.keys, rtol=1e-4, atol=1e-4 * max(1, scale))
    torch.testing.assert_close(cache.values, other.values, rtol=1e-4, atol=1e-4 * max(1, scale))
    torch.testing.assert_close(cache.inputs, other.inputs, rtol=1e-4, atol=1e-4 * max(1, scale))
    assert cache.position == other.position == count


@pytest.mark.slow  # a compiler
@pytest.mark.parametrize("level", library.LEVELS)
def test_every_level_of_this_machine_computes_the_same(level, tmp_path, monkeypatch):
    if not library.has(level) or not library.available():
        pytest.skip(f"this machine cannot have {level}")
    library.build(tmp_path / "operators.so", level, namespace=f"muomni_row_{level}")
    ctypes.CDLL(str(tmp_path / "operators.so"))
    monkeypatch.setattr(torch.ops.muomni, "row_block", getattr(torch.ops, f"muomni_row_{level}").row_block)
    for shape in ((24, 2, 2, 32), (20, 2, 1, 7), (192, 3, 3, 96)):
        whole, tokens = (
            network(*shape, **OPTIONS[-1]),
            torch.randn(30, shape[0], generator=torch.Generator().manual_seed(0)),
        )
        ours, _ = run(RowTransformer(whole), whole, tokens, 0, 30)
        torch.testing.assert_close(ours, run(whole, whole, tokens, 0, 30)[0], rtol=1e-4, atol=2e-5)


@needs_compiler
@pytest.mark.parametrize(
    ("name", "other", "why"),
    [
        ("x", torch.zeros(1, 2, 24), r"x \(1, 1, D\)"),
        ("x", torch.zeros(1, 1, 24, dtype=torch.float64), "float32"),
        ("qkv", torch.zeros(71, 24), "qkv"),
        ("down", torch.zeros(32, 24).T, "down must be contiguous"),
        ("keys", torch.zeros(2, 2, 5, 12), r"keys and values \(1, G, C, K\)"),
        ("query_norm", torch.ones(6), r"query_norm and key_norm \(K\), or empty"),
        ("key_norm", torch.ones(12), r"query_norm and key_norm \(K\), or empty"),
        ("conv", torch.ones(2, 24), r"inputs \(1, C, D\)"),
        ("position", 5, "in the cache"),
        ("position", -1, "in the cache"),
    ],
)
def test_what_does_not_fit_is_refused(name, other, why):
    arguments = {
        "x": torch.zeros(1, 1, 24), "attention_norm": torch.ones(24), "qkv": torch.zeros(72, 24), "out": torch.zeros(24, 24),
        "mlp_norm": torch.ones(24), "gate_up": torch.zeros(64, 24), "down": torch.zeros(24, 32), "cos": torch.ones(6),
        "sin": torch.zeros(6), "keys": torch.zeros(1, 2, 5, 12), "values": torch.zeros(1, 2, 5, 12), "position": 4, "eps": 1e-5,
        "query_norm": torch.empty(0), "key_norm": torch.empty(0), "conv": torch.empty(0), "inputs": torch.empty(1, 5, 0),
        "head_eps": 0.0,
    }  # fmt: skip
    assert torch.ops.muomni.row_block(**arguments).shape == (1, 1, 24)
    with pytest.raises(RuntimeError, match=why):
        torch.ops.muomni.row_block(**arguments | {name: other})


@needs_compiler
def test_a_full_cache_and_nan_are_not_hidden():
    whole = network(24, 2, 2, 32)
    with pytest.raises(ValueError, match=r"Too many tokens: 4 > 3"):
        run(RowTransformer(whole), whole, torch.randn(4, 24), 0, 3)
    hidden, _ = run(RowTransformer(whole), whole, torch.full((2, 24), float("nan")), 0, 3)
    assert hidden.isnan().all()


@needs_compiler
def test_weights_that_are_replaced_or_moved_are_followed():
    whole, tokens = network(24, 2, 2, 32), torch.randn(4, 24)
    rows = RowTransformer(whole)
    whole.load_state_dict({name: -2 * value for name, value in whole.state_dict().items()}, assign=True)
    torch.testing.assert_close(
        run(rows, whole, tokens, 0, 4)[0], run(whole, whole, tokens, 0, 4)[0], rtol=1e-4, atol=2e-5
    )
    rows.to(torch.bfloat16)
    cache = KVCache(
        num_layers=2, batch_size=1, num_kv_heads=2, capacity=4, head_dim=12, dtype=torch.bfloat16, device="cpu"
    )
    rope = Rope(12, theta=10000.0)(torch.zeros(1))
    with torch.inference_mode():
        assert rows(tokens[None, :1].bfloat16(), AttentionContext(rope, cache=cache)).hidden.dtype == torch.bfloat16


@needs_compiler
def test_rows_that_are_padded_or_several_are_the_transformers_own(monkeypatch):
    whole, calls = network(24, 2, 2, 32), []
    rows = RowTransformer(whole)
    monkeypatch.setattr(
        rows.whole, "forward", lambda x, context: calls.append(x.shape) or type(whole).forward(whole, x, context)
    )
    rope = Rope(12, theta=10000.0)
    with torch.inference_mode():
        for count, padded in ((1, False), (2, False), (1, True)):
            cache = new_cache(whole, 3, rows=count)
            cache.left_padded = padded
            rows(torch.randn(count, 1, 24), AttentionContext(rope(torch.zeros(1)), cache=cache))
    assert [shape[0] for shape in calls] == [2, 1]


@pytest.mark.parametrize(
    ("other", "plain"),
    [
        ({}, True),
        ({"bias": True}, False),
        ({"qk_norm": NORM}, True),
        ({"qk_norm": partial(OffsetRMSNorm, eps=1e-5)}, False),
        ({"window": 3}, False),
        ({"short_conv": 3}, True),
        ({"scale": 2.0}, False),
        ({"mlp": GeGLU}, False),
    ],
)
def test_only_plain_blocks_are_taken(other, plain):
    assert is_plain(network(24, 2, 2, 32, **other).blocks[0]) == plain
    assert not is_plain(network(24, 2, 2, 32).bfloat16().blocks[0])


def tiny_talker():
    torch.manual_seed(4)
    talker = Talker(
        num_symbols=99, num_speakers=1, text_layers=1, text_kernel=3, num_codebooks=2, codebook_size=16, dim=24, num_layers=2,
        num_heads=2, ff_dim=32, max_frames=60, shared_embedding=False,
    )  # fmt: skip
    for parameter in talker.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return talker.eval().requires_grad_(False)


@torch.inference_mode()
def spoken(talker, frames=40):
    text = torch.arange(1, 20)[None]
    cache = talker.new_cache(1, 19 + frames + 1)
    out = talker.prefill(text, torch.tensor([19]), speakers=torch.zeros(1, dtype=torch.long), cache=cache)
    cache.left_padded = False
    decoder, codes = FrameDecoder(talker, cache), [greedy_frames(out)]
    for _ in range(frames):
        codes.append(decoder(codes[-1])[:, 0])
    return torch.cat(codes)


@needs_compiler
def test_a_talker_speaks_the_same_codes():
    talker = tiny_talker()
    twin = with_row_blocks(talker)
    assert isinstance(twin.transformer, RowTransformer) and not isinstance(talker.transformer, RowTransformer)
    assert torch.equal(spoken(twin), spoken(talker))
    assert twin.heads[0].weight is talker.heads[0].weight


def test_without_operators_torch_computes(monkeypatch):
    monkeypatch.setattr(row_blocks.library, "ready", lambda: False)
    talker = tiny_talker()
    assert torch.equal(spoken(with_row_blocks(talker)), spoken(talker))
    thinker, ids = small_thinker(), torch.tensor([11])
    with torch.inference_mode():
        twin = with_row_blocks(thinker)
        assert torch.equal(decode_step(twin, ids, twin.new_cache(1)), decode_step(thinker, ids, thinker.new_cache(1)))


class Ready:
    """In place of `library.ready`: a switch. steps: products and blocks by operators."""

    def __init__(self, monkeypatch):
        self.now, self.steps = False, []
        monkeypatch.setattr(row_blocks.library, "ready", lambda: self.now)
        for name in ("row_block", "float_linear"):
            operator = getattr(torch.ops.muomni, name)
            monkeypatch.setattr(torch.ops.muomni, name, partial(self._counted, operator))

    def _counted(self, operator, *arguments):
        self.steps.append(operator)
        return operator(*arguments)


@needs_compiler
@pytest.mark.parametrize("at_hand", [False, True])
@torch.inference_mode()
def test_a_generation_keeps_the_path_that_it_began_with(at_hand, monkeypatch):
    """Operators that are built meanwhile are for the next one: a sentence of the Talker, an answer of the Thinker."""
    ready, talker, thinker = Ready(monkeypatch), tiny_talker(), small_thinker()
    ready.now = at_hand
    decoder, frame = first_frames(
        with_row_blocks(talker), text=torch.arange(1, 5)[None], text_lengths=torch.tensor([4]),
        speakers=torch.zeros(1, dtype=torch.long), most=9, choose=FrameChooser(),
    )  # fmt: skip
    slots = SpeechSlots(with_row_blocks(talker), rows=2)
    slots.join(decoder.cache, frames=1, talker=decoder.talker)
    ready.now = True
    decoder(frame)
    slots.step(frame[:, None, :-1])
    assert len(ready.steps) == 2 * len(talker.transformer.blocks) * at_hand
    ready.steps.clear()
    ready.now, runtime = at_hand, Eager(thinker)
    cache, ids, sampler = (
        runtime.new_cache(1, 20),
        torch.tensor([[11, 12, 13]]),
        Sampler(GenerationOptions(), device="cpu"),
    )
    first = sampler(runtime.prefill(ids, cache, embeddings=thinker.embedding(ids), padding=None))
    ready.now = True
    list(decode(runtime.decoder(cache, sampler=sampler, padding=None, timings=Timings()), first, max_tokens=4))
    assert bool(ready.steps) == at_hand
    ready.steps.clear()
    runtime.prefill(ids[:, :1], cache, embeddings=thinker.embedding(ids[:, :1]), padding=None)  # the next turn
    assert len(ready.steps) == len(thinker.transformer.blocks) + 1


@needs_compiler
@torch.inference_mode()
def test_a_scheduled_answer_keeps_its_path_too(monkeypatch):
    ready, thinker = Ready(monkeypatch), small_thinker()
    runtime = Eager(thinker)
    steps = Steps(thinker, runtime, slots=2, prefill_chunk=8, end=lambda *_: None)
    before, after = SimpleNamespace(alone=None), SimpleNamespace(alone=None)
    assert steps._alone_by(before) is thinker
    ready.now = True
    assert steps._alone_by(before) is thinker and steps._alone_by(after) is steps.one_row


def small_thinker(**options):
    torch.manual_seed(7)
    shape = {
        "vocab_size": 60,
        "dim": 32,
        "num_layers": 3,
        "num_heads": 4,
        "num_kv_heads": 2,
        "ff_dim": 48,
        "max_length": 40,
    }
    thinker = Thinker(**shape | options)
    for name, parameter in thinker.named_parameters():
        if "norm" in name or "short_conv" in name:
            torch.nn.init.normal_(parameter, mean=1.0)
    return thinker.eval()


@needs_compiler
@pytest.mark.parametrize(
    "options", [{}, {"qk_norm": True, "short_conv": 4}, {"tied": True, "rope_scaling": 2.5, "head_dim": 12}]
)
@torch.inference_mode()
def test_a_thinkers_steps_equal_reading_the_whole(options, monkeypatch):
    """Within the tolerance of tests/unit/inference/test_exactness.py; also after tokens that were taken back, and after an image
    token, which a short convolution leaves out."""
    thinker = small_thinker(**options)
    twin, steps = with_row_blocks(thinker), []
    operator = torch.ops.muomni.row_block
    monkeypatch.setattr(torch.ops.muomni, "row_block", lambda *each: steps.append(each) or operator(*each))
    ids = torch.randint(9, 60, (1, 30))
    ids[0, 11:13] = IMAGE
    embeddings = thinker.embedding(ids)
    whole = thinker(ids, embeddings).logits[0]
    cache = twin.new_cache(1)
    for wrong in ids[0, :3].split(1):
        decode_step(twin, wrong, cache)
    cache.roll_back(0)
    prefill(twin, ids[:, :12], cache, embeddings=embeddings[:, :12])
    before = len(steps)
    logits = prefill(twin, ids[:, 12:13], cache, embeddings=embeddings[:, 12:13])
    if thinker.short_conv:  # one token, but it has something to leave out
        assert len(steps) == before == 9
    for place in range(13, 30):
        torch.testing.assert_close(logits[0], whole[place - 1], atol=1e-5, rtol=1e-5)
        logits = decode_step(twin, ids[0, place : place + 1], cache)
    torch.testing.assert_close(logits[0], whole[-1], atol=1e-5, rtol=1e-5)


@needs_compiler
def test_what_trains_autocasts_or_keeps_half_a_cache_is_computed_by_torch(monkeypatch):
    thinker = small_thinker()
    twin, ids = with_row_blocks(thinker), torch.tensor([11])
    monkeypatch.setattr(torch.ops.muomni, "row_block", None)
    monkeypatch.setattr(torch.ops.muomni, "float_linear", None)
    assert decode_step(twin, ids, twin.new_cache(1)).requires_grad
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        decode_step(twin, ids, twin.new_cache(1))
    monkeypatch.undo()
    with torch.inference_mode():
        cache = twin.new_cache(1, dtype=torch.bfloat16)
        torch.testing.assert_close(decode_step(twin, ids, cache), thinker(ids[None]).logits[:, 0], atol=1e-2, rtol=1e-2)


def test_a_thinker_of_other_blocks_stays_as_it_is():
    for options in ({"window": 3}, {"qkv_bias": True}, {"mlp": "geglu"}, {"num_experts": 2}, {"norm": "layer"}):
        thinker = small_thinker(**options)
        assert with_row_blocks(thinker) is thinker
    int8 = small_thinker()
    set_weight_dtype(int8, "int8")
    assert with_row_blocks(int8) is int8
    twin = with_row_blocks(small_thinker())
    assert isinstance(twin.transformer, RowTransformer) and isinstance(twin.head, RowLinear)
