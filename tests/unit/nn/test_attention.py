"""Attention: the cached path equals the whole one, padding changes nothing, GQA shares heads, a window forgets."""

from functools import partial

import pytest
import torch

from muomni.nn.attention import Attention, _attend_one, attend
from muomni.nn.cache import KVCache
from muomni.nn.context import AttentionContext
from muomni.nn.masks import PaddingMask, SegmentMask, causal_mask
from muomni.nn.norm import RMSNorm
from muomni.nn.rope import Rope

B, T, D, H, G = 3, 11, 32, 4, 2
K = D // H


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def attention(*, heads=H, kv_heads=G, causal=True, **options):
    layer = Attention(D, heads=heads, kv_heads=kv_heads, causal=causal, **options).eval()
    if layer.short_conv is not None:
        torch.nn.init.normal_(layer.short_conv.weight)
    return layer


def new_cache(capacity=T, batch=B):
    return KVCache(
        num_layers=1,
        batch_size=batch,
        num_kv_heads=G,
        capacity=capacity,
        head_dim=K,
        dtype=torch.float32,
        device="cpu",
        conv_dim=D,
    )


def read_in_chunks(layer, x, sizes, *, rope=None):
    cache, out, start = new_cache(), [], 0
    for size in sizes:
        turn = None if rope is None else rope(torch.arange(start, start + size))
        out.append(layer(x[:, start : start + size], AttentionContext(turn, cache=cache)))
        cache.advance(size)
        start += size
    return torch.cat(out, dim=1)


@pytest.mark.parametrize("sizes", [[T], [1] * T, [5, 1, 3, 2], [10, 1]])
@pytest.mark.parametrize("options", [{}, {"qk_norm": partial(RMSNorm, eps=1e-6)}, {"window": 3}, {"short_conv": 4}])
def test_cached_equals_uncached(sizes, options):
    layer, rope, x = attention(**options), Rope(K, theta=10000.0), torch.randn(B, T, D)
    whole = layer(x, AttentionContext(rope(torch.arange(T))))
    torch.testing.assert_close(read_in_chunks(layer, x, sizes, rope=rope), whole, atol=1e-5, rtol=1e-5)


def test_single_head_by_hand():
    """softmax(q k / sqrt(K)) v, written out."""
    layer, x = attention(heads=1, kv_heads=1), torch.randn(1, 4, D)
    query, key, value = layer.qkv(x)[0].split(D, dim=-1)
    rows = []
    for t in range(4):
        scores = (key[: t + 1] @ query[t]) / D**0.5
        rows.append(scores.softmax(0) @ value[: t + 1])
    torch.testing.assert_close(layer(x)[0], layer.out(torch.stack(rows)))


def test_another_scale_and_a_head_width_apart_by_hand():
    """softmax(0.3 q k) v with a head of 6 in a width of 32; biases of queries, keys and values, none of the output."""
    layer, x = attention(heads=1, kv_heads=1, head_dim=6, scale=0.3, bias=True, out_bias=False), torch.randn(1, 4, D)
    assert layer.qkv.bias is not None and layer.out.bias is None
    torch.nn.init.normal_(layer.qkv.bias)
    query, key, value = layer.qkv(x)[0].split(6, dim=-1)
    rows = [(0.3 * key[: t + 1] @ query[t]).softmax(0) @ value[: t + 1] for t in range(4)]
    torch.testing.assert_close(layer(x)[0], layer.out(torch.stack(rows)))


def test_attention_with_a_window_turns_by_its_own_positions():
    layer, x, positions = attention(window=T), torch.randn(B, T, D), torch.arange(T)
    own, other = Rope(K, theta=100.0)(positions), Rope(K, theta=10000.0)(positions)
    torch.testing.assert_close(layer(x, AttentionContext(other, local_rope=own)), layer(x, AttentionContext(own)))
    layer.window = None
    torch.testing.assert_close(layer(x, AttentionContext(other, local_rope=own)), layer(x, AttentionContext(other)))


def test_grouped_heads_equal_repeated_ones():
    """GQA is multi-head attention whose key and value heads are copies."""
    grouped, full = attention(), attention(kv_heads=H)
    weight = grouped.qkv.weight.detach().view(H + 2 * G, K, D)
    query, key, value = weight.split((H, G, G))
    repeated = [query, key.repeat_interleave(H // G, 0), value.repeat_interleave(H // G, 0)]
    full.qkv.weight.data = torch.cat(repeated).reshape(-1, D)
    full.out.load_state_dict(grouped.out.state_dict())
    x = torch.randn(B, T, D)
    torch.testing.assert_close(full(x), grouped(x))


def test_normed_queries_and_keys_cannot_run_away():
    """QK-norm: attention does not depend on the size of its projections, and its logits are at most sqrt(head width)."""
    x, outputs = torch.randn(B, T, D), {}
    for qk_norm in (False, True):
        layer = attention(kv_heads=H, qk_norm=partial(RMSNorm, eps=1e-6) if qk_norm else None)
        before = layer(x)
        layer.qkv.weight.data[: 2 * D] *= 100
        outputs[qk_norm] = torch.allclose(layer(x), before, atol=1e-3)
        if qk_norm:
            query, key = layer.qkv(x).view(B, T, 3 * H, K).transpose(1, 2)[:, : 2 * H].chunk(2, dim=1)
            logits = layer.query_norm(query) @ layer.key_norm(key).mT / K**0.5
            assert logits.abs().max() <= K**0.5 + 1e-4
    assert outputs == {False: False, True: True}


def test_the_future_changes_nothing():
    layer, x = attention(), torch.randn(B, T, D)
    before = layer(x)[:, :5]
    x[:, 5:] = torch.randn(B, T - 5, D)
    torch.testing.assert_close(layer(x)[:, :5], before)
    assert not torch.allclose(attention(causal=False)(x)[:, :5], attention(causal=False)(torch.zeros_like(x))[:, :5])


@pytest.mark.parametrize("window", [1, 3, 100])
def test_a_window_sees_its_last_tokens_only(window):
    layer, x = attention(window=window), torch.randn(1, T, D)
    last = layer(x)[:, -1]
    other = x.clone()
    other[:, : max(0, T - window)] += 1.0
    torch.testing.assert_close(layer(other)[:, -1], last)
    if window < T:
        other[:, T - window] += 1.0
        assert not torch.allclose(layer(other)[:, -1], last)


def test_mask_of_new_tokens_behind_old_ones():
    mask = causal_mask(2, 4, window=2, device=torch.device("cpu"))
    assert mask.tolist() == [[False, True, True, False], [False, False, True, True]]


@pytest.mark.parametrize("causal", [True, False])
def test_padding_changes_no_real_token_and_gives_no_nan(causal):
    layer, x = attention(causal=causal), torch.randn(B, T, D)
    alone = layer(x[:1, 4:])
    keep = torch.ones(B, T, dtype=torch.bool)
    keep[0, :4] = False
    out = layer(x, AttentionContext(mask=PaddingMask(keep)))
    torch.testing.assert_close(out[:1, 4:], alone)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("short_conv", [0, 3])
def test_packed_samples_see_themselves_alone(short_conv):
    layer, rope, x = attention(short_conv=short_conv), Rope(K, theta=10000.0), torch.randn(1, 9, D)
    mask = SegmentMask(torch.tensor([[1, 1, 1, 1, 2, 2, 2, 0, 0]]))
    out = layer(x, AttentionContext(rope(torch.arange(9)), mask))
    for part in (slice(0, 4), slice(4, 7)):
        alone = layer(x[:, part], AttentionContext(rope(torch.arange(part.stop - part.start))))
        torch.testing.assert_close(out[:, part], alone, atol=1e-5, rtol=1e-5)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("short_conv", [0, 3])
def test_left_padded_cache_equals_single_rows(short_conv):
    """Two prompts of 3 and 5 tokens in one batch, then two more tokens each, against each alone."""
    layer, rope, x = attention(short_conv=short_conv), Rope(K, theta=10000.0), torch.randn(2, 7, D)
    padding = torch.tensor([2, 0])
    positions = (torch.arange(7)[None] - padding[:, None]).clamp_min(0)
    cache = new_cache(capacity=7, batch=2)
    cache.mask_padding(torch.arange(5)[None] >= padding[:, None])
    first = layer(x[:, :5], AttentionContext(rope(positions[:, :5]), cache=cache))
    cache.advance(5)
    then = layer(x[:, 5:], AttentionContext(rope(positions[:, 5:]), cache=cache))
    out = torch.cat((first, then), dim=1)
    for row, pad in enumerate(padding.tolist()):
        alone = layer(x[row : row + 1, pad:], AttentionContext(rope(torch.arange(7 - pad))))
        torch.testing.assert_close(out[row : row + 1, pad:], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("heads", "kv_heads"), [(3, 3), (4, 3)])
def test_heads_that_do_not_divide_are_refused(heads, kv_heads):
    with pytest.raises(ValueError, match="do not divide"):
        attention(heads=heads, kv_heads=kv_heads)


@pytest.mark.parametrize("amx", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_without_amx_is_float32_inside(monkeypatch, amx, autocast):
    monkeypatch.setattr("muomni.nn.attention.CPU_HAS_AMX", amx)
    query, key, value = (torch.randn(2, heads, 5, 8, dtype=torch.bfloat16) for heads in (4, 2, 2))
    exact = attend(query.double(), key.double(), value.double(), mask=None, is_causal=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        mixed = attend(query, key, value, mask=None, is_causal=True)
    assert mixed.dtype == torch.bfloat16 and exact.dtype == torch.float64
    if amx:
        assert torch.allclose(mixed.double(), exact, atol=0.05)
    else:
        assert torch.equal(mixed, exact.to(torch.bfloat16))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_one_query_as_compiled_steps_compute_it(kv_heads, masked):
    query, key, value = torch.randn(3, 6, 1, 8), torch.randn(3, kv_heads, 11, 8), torch.randn(3, kv_heads, 11, 8)
    mask = (torch.arange(11) < torch.tensor([[1], [4], [11]]))[:, None, None] if masked else None
    expected = attend(query, key, value, mask=mask, is_causal=False)
    assert torch.allclose(_attend_one(query, key, value, mask), expected, atol=1e-6)
