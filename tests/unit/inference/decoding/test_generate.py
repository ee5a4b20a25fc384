import pytest
import torch

from muomni.inference.decoding.generate import decode, decode_step, generate, left_pad, prefill
from muomni.inference.decoding.options import preset
from muomni.inference.decoding.runtime import Eager
from muomni.inference.decoding.sampling import Sampler
from muomni.inference.decoding.timings import Timings
from muomni.special_tokens import EOS, PAD
from tests.unit.inference.conftest import VOCAB, tiny_thinker


def some_ids(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(9, VOCAB, (count,), generator=torch.Generator().manual_seed(seed))


FOREIGN = {"window": 8, "full_attention": [1], "learned_positions": True, "qkv_bias": True, "head_dim": 12}


@pytest.mark.parametrize("changes", [{}, {"window": 8}, {"qk_norm": True, "num_kv_heads": 4}, {"tied": True}, FOREIGN])
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


def eager(thinker, cache, *, padding=None, options=None):
    options = options or preset("greedy")
    return Eager(thinker).decoder(cache, sampler=Sampler(options, device="cpu"), padding=padding, timings=Timings())


def answers(thinker, ids, *, new, padding=None, chunk=None):
    cache = thinker.new_cache(len(ids))
    decoder = eager(thinker, cache, padding=padding)
    first = prefill(thinker, ids, cache, padding=padding, chunk=chunk).argmax(1)
    return generate(decoder, first, limits=torch.full((len(ids),), new)).answers()


@torch.inference_mode()
def test_ragged_rows_equal_their_single_runs():
    thinker = tiny_thinker()
    rows = [some_ids(count, seed=count) for count in (3, 17, 9)]
    ids, padding = left_pad(rows)
    assert ids[0, :14].tolist() == [PAD] * 14
    for chunk in (None, 4):
        together = answers(thinker, ids, new=12, padding=padding, chunk=chunk)
        for row, batched in zip(rows, together, strict=True):
            assert answers(thinker, row[None], new=12) == [batched]
    assert left_pad(rows[:1])[1] is None


@torch.inference_mode()
def test_decoding_ends_at_the_limit_or_with_the_cache_and_never_holds_the_last_token():
    thinker = tiny_thinker()
    cache = thinker.new_cache(1, capacity=10)
    first = prefill(thinker, some_ids(6)[None], cache).argmax(1)
    assert (
        len(list(decode(eager(thinker, cache), first, max_tokens=None))) == 5
    )  # 4 fit, one is written without being read
    assert cache.remaining == 0
    cache.roll_back(6)
    assert len(list(decode(eager(thinker, cache), first, max_tokens=3))) == 3
    assert cache.position == 8


@torch.inference_mode()
def test_whoever_stops_early_finds_the_cache_before_that_token():
    thinker = tiny_thinker()
    cache = thinker.new_cache(1)
    ids = some_ids(6)
    first = prefill(thinker, ids[None], cache).argmax(1)
    steps = decode(eager(thinker, cache), first, max_tokens=None)
    read = [next(steps) for _ in range(4)]
    steps.close()
    assert cache.position == 6 + 3
    alone = thinker(torch.cat([ids, torch.cat(read)])[None]).logits[0, -1]
    torch.testing.assert_close(decode_step(thinker, read[-1], cache)[0], alone, atol=1e-5, rtol=1e-5)


class Counting:
    """A decoder that chooses several tokens at a call, as a compiled step does: 10, 11, 12, ..."""

    def __init__(self, cache, block, end):
        self.cache, self.block, self.end = cache, block, end

    def __call__(self, tokens):
        count = min(self.block, self.cache.remaining)
        self.cache.advance(count)
        return tokens[:, None] + torch.arange(1, count + 1)

    def ended(self, tokens):
        return tokens == self.end


@pytest.mark.parametrize("block", [1, 3, 4])
def test_a_decoder_may_choose_several_tokens_at_a_call(block):
    cache = tiny_thinker().new_cache(2, capacity=10)
    cache.advance(2)
    decoder = Counting(cache, block, end=15)
    generated = generate(decoder, torch.tensor([10, 12]), limits=torch.tensor([9, 2]))
    assert [row.tolist() for row in generated.rows()] == [[10, 11, 12, 13, 14, 15], [12, 13]]
    assert generated.answers() == [[10, 11, 12, 13, 14], [12, 13]]
    assert generated.ended.tolist() == [True, False]
    assert cache.position == 2 + 5
    cache.roll_back(2)
    assert len(list(decode(decoder, torch.tensor([10, 12]), max_tokens=None))) == 9
    assert cache.remaining == 0


@torch.inference_mode()
def test_an_answer_ends_at_eos():
    thinker = tiny_thinker()
    decoder = eager(thinker, thinker.new_cache(1))
    assert decoder.ended(torch.tensor([EOS, 12])).tolist() == [True, False]
    assert generate(decoder, torch.tensor([EOS]), limits=torch.tensor([9])).answers() == [[]]
