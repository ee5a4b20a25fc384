import pytest
import torch

from muomni.inference.generate import decode, decode_step, generate, left_pad, prefill
from muomni.inference.sampling import Sampler, preset
from muomni.inference.stats import Timings
from muomni.special_tokens import EOS, PAD
from tests.unit.inference.conftest import VOCAB, tiny_thinker


def some_ids(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(9, VOCAB, (count,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("changes", [{}, {"window": 8}, {"qk_norm": True, "num_kv_heads": 4}, {"tied": True}])
@pytest.mark.parametrize("chunk", [None, 8, 100])
@torch.inference_mode()
def test_cached_equals_uncached_in_any_chunks(changes, chunk):
    thinker = tiny_thinker(**changes)
    ids = some_ids(104)
    whole = thinker(ids[None]).logits[0]
    cache = thinker.new_cache(1)
    logits = prefill(thinker, ids[None, :100], cache, chunk=chunk)
    assert torch.allclose(logits[0], whole[99], atol=1e-4)
    for place in range(100, 104):
        logits = decode_step(thinker, ids[place : place + 1], cache)
        assert torch.allclose(logits[0], whole[place], atol=1e-4)
    assert cache.position == 104


@torch.inference_mode()
def test_ragged_rows_equal_their_single_runs():
    thinker = tiny_thinker()
    rows = [some_ids(count, seed=count) for count in (3, 17, 9)]
    ids, padding = left_pad(rows)
    assert ids[0, :14].tolist() == [PAD] * 14
    for chunk in (None, 4):
        cache = thinker.new_cache(3)
        logits = prefill(thinker, ids, cache, padding=padding, chunk=chunk)
        together = generate(
            thinker, logits, cache, sampler=Sampler(preset("greedy"), device="cpu"), max_new_tokens=12,
            padding=padding, timings=Timings(),
        )  # fmt: skip
        for row, batched in zip(rows, together, strict=True):
            own = thinker.new_cache(1)
            first = prefill(thinker, row[None], own)
            sampler = Sampler(preset("greedy"), device="cpu")
            alone = generate(thinker, first, own, sampler=sampler, max_new_tokens=12, timings=Timings())
            assert batched == alone[0]


@torch.inference_mode()
def test_decoding_ends_at_eos_at_the_limit_or_with_the_cache():
    thinker = tiny_thinker()
    cache = thinker.new_cache(1, capacity=10)
    logits = prefill(thinker, some_ids(6)[None], cache)
    options = preset("greedy")
    sampler = Sampler(options, device="cpu")
    steps = list(decode(thinker, logits, cache, sampler=sampler, max_new_tokens=None, timings=Timings()))
    assert len(steps) == 5  # 4 fit, and one is written without being read
    assert cache.remaining == 0
    ending = logits.clone()
    ending[0, EOS] = 99.0
    timings = Timings()
    steps = list(decode(thinker, ending, cache, sampler=sampler, max_new_tokens=9, timings=timings))
    assert [int(ids) for ids in steps] == [EOS]
    assert timings.new_tokens == 0
