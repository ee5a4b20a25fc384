"""Packed rows: one mask a forward, and on a GPU runs for the flash kernel instead of it, which say the same."""

import pytest
import torch
import torch.nn.functional as F

from muomni.inference.decoding.generate import decode_step, prefill
from muomni.models.thinker import Thinker
from muomni.nn import attention, packed
from muomni.nn.packed import PackedRows, has_flash, runs_of
from muomni.nn.transformer import Block
from muomni.special_tokens import IMAGE
from tests.fake_cuda import CUDA, fake_cuda

SEGMENTS = torch.tensor([[1] * 9 + [2] * 4 + [0] * 2, [1] * 3 + [2] * 12, [1] * 15])
PARTS = torch.tensor([[0] * 3 + [1] * 2 + [2] * 4 + [0] * 6, [0] * 5 + [1] * 6 + [2] * 4, [0] * 15])


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
    """Of each token as if its part stood alone behind the picture."""
    result = torch.zeros_like(SEGMENTS)
    for row, (segments, parts) in enumerate(zip(SEGMENTS.tolist(), PARTS.tolist(), strict=True)):
        for t, (segment, part) in enumerate(zip(segments, parts, strict=True)):
            before = zip(segments[:t], parts[:t], strict=True)
            result[row, t] = sum(s == segment and p in (0, part) for s, p in before)
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
@pytest.mark.parametrize("parts", [None, PARTS])
def test_runs_say_what_the_mask_says(monkeypatch, window, parts):
    model, ids = thinker(window=window), torch.randint(9, 40, SEGMENTS.shape)
    where = None if parts is None else positions()
    rows = PackedRows(SEGMENTS, parts, runs_of(SEGMENTS, parts))
    expected = model(ids, keep=rows, positions=where).logits
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen)
    monkeypatch.setattr(attention, "has_flash", lambda *_: True)
    monkeypatch.setattr(PackedRows, "mask", None)
    found = model(ids, keep=rows, positions=where).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_packed_rows_are_what_integers_and_masks_were():
    """Bit for bit, as older callers give them."""
    model, ids = thinker(), torch.randint(9, 40, SEGMENTS.shape)
    ids[0, :3] = IMAGE
    old = model(ids, keep=SEGMENTS).logits
    assert torch.equal(old, model(ids, keep=PackedRows(SEGMENTS)).logits)
    mask = packed.visible(SEGMENTS, PARTS)
    old = model(ids, keep=mask, positions=positions()).logits
    assert torch.equal(old, model(ids, keep=PackedRows(SEGMENTS, PARTS), positions=positions()).logits)


def test_a_forward_makes_one_mask_for_all_layers(monkeypatch):
    made = []
    mask = PackedRows.mask
    monkeypatch.setattr(PackedRows, "mask", lambda *args, **how: made.append(1) or mask(*args, **how))
    thinker()(torch.randint(9, 40, SEGMENTS.shape), keep=PackedRows(SEGMENTS, PARTS), positions=positions())
    assert len(made) == 1
    causal = attention.causal_mask
    monkeypatch.setattr(attention, "causal_mask", lambda *args, **how: made.append(1) or causal(*args, **how))
    thinker()(torch.randint(9, 40, SEGMENTS.shape), keep=SEGMENTS)
    assert len(made) == 2


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
    monkeypatch.setattr(PackedRows, "mask", None)
    model, runs = thinker().bfloat16(), runs_of(SEGMENTS, PARTS)
    with fake_cuda() as gpu:
        gpu.move(model)
        rows = PackedRows(gpu.tensor(SEGMENTS), gpu.tensor(PARTS), packed.Runs(*map(gpu.tensor, runs)))
        model(gpu.tensor(torch.randint(9, 40, SEGMENTS.shape)), keep=rows, positions=gpu.tensor(positions()))
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
    mask = attention.Attention._mask
    monkeypatch.setattr(attention.Attention, "_mask", lambda *args: made.append(1) or mask(*args))
    together = read()
    assert len(made) == 4  # two chunks, two tokens
    forward = Block.forward
    monkeypatch.setattr(Block, "forward", lambda block, x, mask, **how: forward(block, x, **how))  # each makes its own
    assert torch.equal(read(), together)
    assert len(made) == 2 * 4 + 4 * len(model.transformer.blocks)
