"""Packed rows: one mask a forward, and on a GPU runs for the flash kernel in its place, which say the same."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from muomni.inference.decoding.generate import decode_step, prefill
from muomni.models.thinker import Thinker
from muomni.nn import attention, masks
from muomni.nn.masks import DenseMask, PaddingMask, SegmentMask, causal_mask, packed_attention_mask
from muomni.nn.packed import has_flash, runs_of
from muomni.nn.transformer import Block
from muomni.special_tokens import IMAGE
from tests.device.fake_cuda import CUDA, fake_cuda

SEGMENTS = torch.tensor([[1] * 9 + [2] * 4 + [0] * 2, [1] * 3 + [2] * 12, [1] * 15])
BRANCHES = torch.tensor([[0] * 3 + [1] * 2 + [2] * 4 + [0] * 6, [0] * 5 + [1] * 6 + [2] * 4, [0] * 15])


def thinker(**changes):
    torch.manual_seed(0)
    shape = {
        "vocab_size": 40,
        "dim": 32,
        "num_layers": 3,
        "num_heads": 4,
        "num_kv_heads": 2,
        "ff_dim": 48,
        "max_length": 32,
    }
    return Thinker(**shape, short_conv=3, **changes)


def positions():
    """Of each token as if its branch stood alone after the image."""
    result = torch.zeros_like(SEGMENTS)
    for row, (segments, branches) in enumerate(zip(SEGMENTS.tolist(), BRANCHES.tolist(), strict=True)):
        for t, (segment, branch) in enumerate(zip(segments, branches, strict=True)):
            before = zip(segments[:t], branches[:t], strict=True)
            result[row, t] = sum(s == segment and b in (0, branch) for s, b in before)
    return result


def varlen(query, key, value, query_starts, key_starts, longest_query, longest_key, *, window_size):
    """What torch's kernel computes (causal from the ends of queries and keys), a run at a time."""
    outputs = []
    left, right = window_size
    assert right == 0
    for (a, b), (c, d) in zip(
        zip(query_starts[:-1].tolist(), query_starts[1:].tolist(), strict=True),
        zip(key_starts[:-1].tolist(), key_starts[1:].tolist(), strict=True), strict=True,
    ):  # fmt: skip
        assert 0 < b - a <= longest_query and b - a <= d - c <= longest_key
        distance = torch.arange(d - c - (b - a), d - c)[:, None] - torch.arange(d - c)[None]
        seen = (distance >= 0) & (True if left < 0 else distance <= left)
        each = (x.transpose(0, 1)[None] for x in (query[a:b], key[c:d], value[c:d]))
        outputs.append(F.scaled_dot_product_attention(*each, attn_mask=seen)[0].transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("branches", [None, BRANCHES])
def test_runs_say_what_the_mask_says(monkeypatch, window, branches):
    model, ids = thinker(window=window), torch.randint(9, 40, SEGMENTS.shape)
    mask = SegmentMask.with_runs(SEGMENTS, branches, None if branches is None else positions())
    expected = model(ids, mask=mask).logits
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen)
    monkeypatch.setattr(attention, "has_flash", lambda *_: True)
    monkeypatch.setattr(SegmentMask, "dense", None)
    torch.testing.assert_close(model(ids, mask=mask).logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [None, 4])
def test_masks_that_say_the_same_are_the_same(window):
    """Bit for bit."""
    model, ids = thinker(window=window), torch.randint(9, 40, SEGMENTS.shape)
    ids[0, :3] = IMAGE
    order = causal_mask(15, 15, window=window, device=ids.device)
    one = (SEGMENTS > 0).long()
    for mask, visible in (
        (SegmentMask(SEGMENTS), SEGMENTS[:, :, None] == SEGMENTS[:, None]),
        (PaddingMask(SEGMENTS > 0), one[:, :, None] == one[:, None]),
    ):
        assert torch.equal(model(ids, mask=mask).logits, model(ids, mask=DenseMask(visible & order)).logits)
    where = positions()
    visible = packed_attention_mask(SEGMENTS, BRANCHES) & causal_mask(15, 15, window=None, device=ids.device)
    if window is not None:
        visible &= where[:, :, None] - where[:, None] < window
    found = model(ids, mask=SegmentMask(SEGMENTS, BRANCHES, where)).logits
    assert torch.equal(found, model(ids, mask=DenseMask(visible), positions=where).logits)


def test_a_moved_mask_keeps_its_fields():
    mask = SegmentMask.with_runs(SEGMENTS, BRANCHES, positions())
    moved = mask.map(lambda tensor: tensor + 1)
    assert torch.equal(moved.segment_ids, SEGMENTS + 1) and torch.equal(moved.branch_ids, BRANCHES + 1)
    assert torch.equal(moved.positions, positions() + 1)
    assert all(torch.equal(a, b + 1) for a, b in zip(moved.runs, mask.runs, strict=True))
    plain = SegmentMask(SEGMENTS).map(lambda tensor: tensor)
    assert (plain.branch_ids, plain.positions, plain.runs) == (None, None, None)


def test_a_forward_makes_one_mask_for_all_layers(monkeypatch):
    made, ids = [], torch.randint(9, 40, SEGMENTS.shape)
    causal = masks.causal_mask
    monkeypatch.setattr(masks, "causal_mask", lambda *args, **how: made.append(1) or causal(*args, **how))
    for mask in (SegmentMask(SEGMENTS, BRANCHES, positions()), SegmentMask(SEGMENTS), PaddingMask(SEGMENTS > 0)):
        made.clear()
        thinker()(ids, mask=mask)
        assert len(made) == 1


def test_runs_by_hand():
    runs = runs_of(torch.tensor([[1, 1, 1, 2, 0], [1, 1, 1, 1, 1]]), torch.tensor([[0, 1, 2, 0, 0], [0, 0, 1, 1, 2]]))
    assert runs.queries.tolist() == [0, 1, 2, 3, 4, 5, 7, 9, 10]
    assert runs.gather.tolist() == [0, 0, 1, 0, 2, 3, 4, 5, 6, 5, 6, 7, 8, 5, 6, 9]
    assert runs.keys.tolist() == [0, 1, 3, 5, 6, 7, 9, 13, 16]
    plain = runs_of(torch.tensor([[1, 1, 2], [1, 1, 1]]))
    assert plain.queries.tolist() == plain.keys.tolist() == [0, 2, 3, 6]
    assert plain.gather is None


def test_flash_is_taken_where_the_device_has_it():
    cpu = torch.device("cpu")
    assert not has_flash(cpu, torch.bfloat16, 64)
    with fake_cuda(capability=(8, 0)):
        assert has_flash(CUDA, torch.bfloat16, 64) and has_flash(CUDA, torch.float16, 8)
        assert not has_flash(CUDA, torch.float32, 64) and not has_flash(CUDA, torch.bfloat16, 20)
    with fake_cuda(capability=(7, 5)):
        assert not has_flash(CUDA, torch.float16, 64)


def test_a_packed_row_on_a_gpu_has_no_mask_and_waits_for_nothing(monkeypatch):
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", lambda query, *_, **__: query)
    monkeypatch.setattr(SegmentMask, "dense", None)
    model = thinker().bfloat16()
    with fake_cuda() as gpu:
        gpu.move(model)
        mask = SegmentMask.with_runs(SEGMENTS, BRANCHES, positions()).map(gpu.tensor)
        model(gpu.tensor(torch.randint(9, 40, SEGMENTS.shape)), mask=mask)
        assert gpu.counted() == {}


@pytest.mark.parametrize("window", [None, 3])
@torch.inference_mode()
def test_a_cached_forward_makes_one_mask_for_all_layers_and_it_is_the_same(monkeypatch, window):
    model, ids = thinker(window=window), torch.randint(9, 40, (2, 6))
    padding = torch.tensor([0, 2])

    def read():
        cache = model.new_cache(2, 12)
        hidden = [prefill(model, ids, cache, padding=padding, chunk=4)]
        hidden += [decode_step(model, ids[:, 0], cache, padding=padding) for _ in range(2)]
        return torch.stack(hidden)

    made = []
    prepare = attention.Attention.prepare
    monkeypatch.setattr(attention.Attention, "prepare", lambda *args: made.append(1) or prepare(*args))
    together = read()
    assert len(made) == 4  # two chunks, two tokens
    forward = Block.forward

    def by_itself(block, x, context, **how):
        return forward(block, x, replace(context, kernel=None), **how)

    monkeypatch.setattr(Block, "forward", by_itself)
    assert torch.equal(read(), together)
    assert len(made) == 2 * 4 + 4 * len(model.transformer.blocks)
