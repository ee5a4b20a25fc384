"""Attention by blocks computes what torch's kernel computes, forwards and backwards, and only where it is faster."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from muomni.nn import block_attention
from muomni.nn.attention import Attention
from muomni.nn.block_attention import attend_by_blocks, prefers_blocks
from muomni.nn.context import AttentionContext
from muomni.nn.masks import PaddingMask


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(block_attention, "BLOCK", 8)
    monkeypatch.setattr(block_attention, "SCORES", 700)
    monkeypatch.setattr(block_attention, "MIN_LENGTH", 4)
    monkeypatch.setattr(block_attention, "IS_FASTER", True)


def inputs(B, H, G, T, K, dtype):
    torch.manual_seed(B + T)
    tensors = [torch.randn(B, T, heads, K).to(dtype) for heads in (H, G, G)]
    return [each.transpose(1, 2).requires_grad_() for each in tensors], torch.randn(B, H, T, K).to(dtype)


def results(attend, tensors, gradient):
    mixed = attend(*tensors)
    return [mixed, *torch.autograd.grad(mixed, tensors, gradient)]


def masks(B, T, causal):
    lengths = torch.arange(B) % T + 1
    segments = torch.arange(T) // 5
    yield None
    yield (torch.arange(T) < lengths[:, None])[:, None, None]
    yield (segments[:, None] == segments)[None, None].expand(B, 1, T, T)


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 1)]), st.integers(1, 3), st.integers(4, 37), st.sampled_from([2, 8]),
    st.booleans(),
)  # fmt: skip
def test_results_and_gradients_are_those_of_torchs_kernel(heads, B, T, K, causal):
    tensors, gradient = inputs(B, *heads, T, K, torch.float32)
    for mask in masks(B, T, causal):
        visible = torch.ones(T, T, dtype=torch.bool).tril(0 if causal else T)
        whole = visible if mask is None else mask & visible
        expected = results(
            lambda q, k, v, whole=whole: F.scaled_dot_product_attention(q, k, v, attn_mask=whole, enable_gqa=True),
            tensors, gradient,
        )  # fmt: skip
        found = results(lambda *each, mask=mask: attend_by_blocks(*each, mask=mask, causal=causal), tensors, gradient)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_in_bfloat16_it_errs_no_more_than_the_kernel(causal):
    tensors, gradient = inputs(2, 4, 4, 40, 16, torch.bfloat16)

    def kernel(*each):
        return F.scaled_dot_product_attention(*each, is_causal=causal)

    exact = results(kernel, [each.detach().double().requires_grad_() for each in tensors], gradient.double())
    ours = results(lambda *each: attend_by_blocks(*each, mask=None, causal=causal), tensors, gradient)
    for found, theirs, expected in zip(ours, results(kernel, tensors, gradient), exact, strict=True):
        assert found.dtype == torch.bfloat16
        assert (found - expected).norm() < 1.2 * (theirs - expected).norm() + 1e-3 * expected.norm()


def test_a_row_that_attends_to_nothing_is_finite():
    tensors, gradient = inputs(2, 2, 2, 20, 4, torch.float32)
    keep = torch.ones(2, 1, 1, 20, dtype=torch.bool)
    keep[1] = False
    for found in results(lambda *each: attend_by_blocks(*each, mask=keep, causal=True), tensors, gradient):
        assert found.isfinite().all()


def test_a_graph_may_hold_the_operators():
    tensors, _ = inputs(2, 4, 2, 20, 4, torch.float32)
    mask = torch.ones(2, 1, 20, 20, dtype=torch.bool)
    for causal, each in ((True, None), (False, mask)):
        arguments = (*tensors, each, causal)
        kinds = ("test_schema", "test_autograd_registration", "test_faketensor")
        torch.library.opcheck(block_attention._forward, arguments, test_utils=kinds)


def test_only_training_in_bfloat16_prefers_blocks(monkeypatch):
    (query, key, _), _ = inputs(1, 2, 2, 16, 4, torch.bfloat16)
    assert prefers_blocks(query, key)
    with torch.no_grad():
        assert not prefers_blocks(query, key)
    assert not prefers_blocks(query.detach(), key)
    assert not prefers_blocks(query.float(), key.float())
    assert not prefers_blocks(query[:, :, :3], key[:, :, :3])
    assert not prefers_blocks(query[:, :, :8], key)
    monkeypatch.setattr(block_attention, "MAX_LENGTH", 15)
    assert not prefers_blocks(query, key)


@pytest.mark.parametrize("causal", [True, False])
def test_attention_takes_it_under_autocast(causal, monkeypatch):
    torch.manual_seed(0)
    layer = Attention(16, heads=4, kv_heads=2, causal=causal)
    x, keep = torch.randn(3, 20, 16), torch.arange(20) < torch.tensor([20, 9, 13])[:, None]
    losses, gradients = [], []
    for faster in (True, False):
        monkeypatch.setattr(block_attention, "IS_FASTER", faster)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = layer(x, AttentionContext(mask=PaddingMask(keep)))
        assert ("attend_by_blocks" in graph_of(mixed)) == faster
        losses.append((mixed[keep].float() ** 2).sum())
        gradients.append(torch.autograd.grad(losses[-1], list(layer.parameters())))
    torch.testing.assert_close(losses[0], losses[1], rtol=2e-2, atol=0)
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours - theirs).norm() < 0.03 * theirs.norm()


def graph_of(tensor):
    """Names of the nodes that its gradient goes through."""
    names, waiting = "", [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None:
            names += node.name() + " "
            waiting.extend(other for other, _ in node.next_functions)
    return names
