"""Rows of one cache: each computes what it would alone, whatever its neighbours are and whatever a row held before."""

import numpy as np
import pytest
import torch

from muomni.inference.decoding.generate import decode_step, prefill
from muomni.inference.scheduling.rows_step import RowsStep
from muomni.inference.scheduling.slots import MIN_COPY, RowCache, SlotCache, prompt_signature
from muomni.special_tokens import AUDIO, IMAGE
from tests.unit.inference.conftest import VOCAB, tiny_thinker

SHAPES = {
    "plain": {"short_conv": 0},
    "convolution": {"short_conv": 4},
    "window": {"window": 5},
    "experts": {"num_experts": 4, "experts_per_token": 2},
}


def ids_of(length: int, seed: int) -> torch.Tensor:
    return torch.randint(9, VOCAB, (length,), generator=torch.Generator().manual_seed(seed))


def fill(thinker, slots: SlotCache, ids: torch.Tensor, idle) -> tuple[int, int, torch.Tensor]:
    """Prefill a prompt -> its row, the tokens it found there, and the logits."""
    row, cached = slots.acquire(prompt_signature(ids, None), idle)
    logits = prefill(thinker, ids[None, cached:], RowCache(slots, row, count=len(ids) - cached))
    slots.lengths[row] = len(ids)
    return row, cached, logits


def step(thinker, slots: SlotCache, tokens: torch.Tensor) -> torch.Tensor:
    lengths = slots.lengths[: len(tokens)].tolist()
    positions = torch.tensor(lengths)
    slots.written[: len(tokens)] = slots.lengths[: len(tokens)] + 1
    logits = RowsStep(thinker, capacity=slots.capacity)(
        tokens, positions, slots.slots[: max(lengths) + 1], *slots.layers
    )
    for row, token in enumerate(tokens.tolist()):
        slots.extend(row, token)
    return logits


@torch.inference_mode()
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_at_their_own_positions_equal_single_rows(shape):
    thinker = tiny_thinker(**SHAPES[shape])
    slots = SlotCache(thinker, rows=5)
    slots.keys.fill_(torch.nan)  # what earlier requests left
    slots.values.fill_(torch.nan)
    slots.inputs.fill_(torch.nan)
    slots.written[:] = slots.capacity
    prompts = [ids_of(length, length) for length in (1, 17, 2, 9)]
    alone = [thinker.new_cache(1) for _ in prompts]
    for index, (prompt, cache) in enumerate(zip(prompts, alone, strict=True)):
        row, cached, logits = fill(thinker, slots, prompt, idle=range(index, 5))
        assert cached == 0
        slots.swap(row, index)
        torch.testing.assert_close(logits, prefill(thinker, prompt[None], cache), rtol=1e-4, atol=1e-4)
    order = [0, 1, 2, 3]
    for count in (4, 4, 4, 3, 3, 2, 1):
        while len(order) > count:  # the second row leaves
            slots.swap(1 if len(order) > 1 else 0, len(order) - 1)
            order[1 if len(order) > 1 else 0] = order[-1]
            order.pop()
        tokens = ids_of(count, 100 + count)
        logits = step(thinker, slots, tokens)
        for row, index in enumerate(order):
            expected = decode_step(thinker, tokens[row : row + 1], alone[index])
            torch.testing.assert_close(logits[row : row + 1], expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_prompt_continues_from_the_row_that_begins_like_it():
    thinker = tiny_thinker()
    slots = SlotCache(thinker, rows=3)
    first, other = ids_of(20, 1), ids_of(30, 2)
    fill(thinker, slots, first, range(3))
    fill(thinker, slots, other, range(3))
    longer = torch.cat([first, ids_of(5, 3)])
    row, cached, logits = fill(thinker, slots, longer, range(3))
    assert (row, cached) == (0, 20), "the row itself is continued"
    torch.testing.assert_close(logits, prefill(thinker, longer[None], thinker.new_cache(1)), rtol=1e-4, atol=1e-4)
    row, cached, _ = fill(thinker, slots, longer, range(3))
    assert (row, cached) == (0, 24), "of the same prompt all but its last token"


@torch.inference_mode()
def test_a_shared_beginning_is_copied_where_the_row_is_in_use_or_holds_much_more():
    thinker = tiny_thinker()
    slots = SlotCache(thinker, rows=3)
    system = ids_of(MIN_COPY + 4, 1)
    long = torch.cat([system, ids_of(60, 2)])
    fill(thinker, slots, long, range(3))
    prompt = torch.cat([system, ids_of(7, 3)])
    row, cached, logits = fill(thinker, slots, prompt, range(3))
    assert (row, cached) == (1, len(system))
    torch.testing.assert_close(logits, prefill(thinker, prompt[None], thinker.new_cache(1)), rtol=1e-4, atol=1e-4)
    again = torch.cat([system, ids_of(7, 4)])
    row, cached, _ = fill(thinker, slots, again, idle=[2])
    assert (row, cached) == (2, len(system)), "also from rows in use"
    assert slots.lengths.tolist() == [len(long), len(prompt), len(again)]


def test_the_least_recently_used_row_is_given_up():
    slots = SlotCache(tiny_thinker(), rows=3)
    rows = [slots.acquire(prompt_signature(ids_of(9, seed), None), range(3))[0] for seed in range(4)]
    assert rows == [0, 1, 2, 0]


def test_media_slots_are_told_apart_by_their_embeddings():
    ids = torch.tensor([IMAGE, IMAGE, AUDIO, 1, 20])
    embeddings = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    one = prompt_signature(ids, embeddings)
    assert (one[:3] < 0).all()
    assert one[3:].tolist() == [1, 20]
    assert len(set(one.tolist())) == 5
    assert np.array_equal(one, prompt_signature(ids, embeddings.clone()))
    embeddings[1, 3] += 1e-3
    embeddings[4] += 1  # a word: its id says all
    assert (one == prompt_signature(ids, embeddings)).tolist() == [True, False, True, True, True]
