"""Whatever the shape, the prompt and the way it is read: cached equals uncached, a batch its rows, a stream its text.

Random shapes, prompts and chunkings come from hypothesis; a failure shrinks to the smallest case.
"""

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muomni.inference.batch import generate_rows
from muomni.inference.decoding.detokenizer import Detokenizer, detokenize
from muomni.inference.decoding.generate import decode_step, left_pad, prefill
from muomni.inference.decoding.options import preset
from muomni.inference.decoding.runtime import Eager
from muomni.inference.decoding.sampling import row_seeds
from muomni.inference.decoding.timings import Timings
from muomni.inference.prompt import Request
from muomni.models.omni import MediaFeatures, Omni
from muomni.models.thinker import Thinker
from muomni.special_tokens import EOS

VOCAB = 60
FEW = settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@st.composite
def thinkers(draw):
    heads = draw(st.sampled_from([1, 2, 4]))
    shape = {
        "dim": heads * draw(st.sampled_from([4, 8])),
        "num_layers": draw(st.integers(1, 3)),
        "num_heads": heads,
        "num_kv_heads": draw(st.sampled_from([h for h in (1, 2, 4) if heads % h == 0])),
        "ff_dim": 16,
        "window": draw(st.sampled_from([None, 1, 3, 9])),
        "short_conv": draw(st.sampled_from([0, 2, 4])),
        "qk_norm": draw(st.booleans()),
        "tied": draw(st.booleans()),
        "rope_scaling": draw(st.sampled_from([1.0, 2.5])),
        "num_experts": draw(st.sampled_from([0, 0, 3])),
    }
    if shape["num_experts"]:
        shape["dim"], shape["short_conv"] = 8 * heads, 0
    torch.manual_seed(draw(st.integers(0, 5)))
    thinker = Thinker(vocab_size=VOCAB, max_length=64, **shape)
    for name, weight in thinker.named_parameters():
        if "short_conv" in name:
            torch.nn.init.normal_(weight)
    return thinker.eval()


def prompts(least=1, most=40):
    return st.lists(st.integers(9, VOCAB - 1), min_size=least, max_size=most).map(torch.tensor)


@FEW
@given(
    thinker=thinkers(), ids=prompts(least=2), cuts=st.lists(st.integers(1, 12), min_size=1, max_size=8), data=st.data()
)
@torch.inference_mode()
def test_cached_equals_uncached_at_every_position(thinker, ids, cuts, data):
    """In chunks of any sizes, and again from any place that the cache is rolled back to: within 1e-5, in float32."""
    whole = thinker(ids[None]).logits[0]
    cache = thinker.new_cache(1, len(ids))

    def read(start):
        for size in itertools.cycle(cuts):
            part = ids[start : start + size]
            out = thinker(part[None], cache=cache).logits[0]
            torch.testing.assert_close(out, whole[start : start + len(part)], atol=1e-5, rtol=1e-5)
            start += len(part)
            if start == len(ids):
                return

    read(0)
    place = data.draw(st.integers(0, len(ids) - 1), label="roll back to")
    cache.roll_back(place)
    read(place)
    assert cache.position == len(ids)


@FEW
@given(thinker=thinkers(), ids=prompts(least=3), chunk=st.integers(1, 50), wrong=prompts(most=5))
@torch.inference_mode()
def test_prefill_and_steps_equal_the_whole_even_after_a_detour(thinker, ids, chunk, wrong):
    whole = thinker(ids[None]).logits[0]
    cache, split = thinker.new_cache(1), len(ids) // 2
    logits = prefill(thinker, ids[None, :split], cache, chunk=chunk)
    prefill(thinker, wrong[None], cache, chunk=chunk)  # tokens that were read and are taken back
    cache.roll_back(split)
    for place in range(split, len(ids)):
        torch.testing.assert_close(logits[0], whole[place - 1], atol=1e-5, rtol=1e-5)
        logits = decode_step(thinker, ids[place : place + 1], cache)
    torch.testing.assert_close(logits[0], whole[-1], atol=1e-5, rtol=1e-5)


@FEW
@given(thinker=thinkers(), rows=st.lists(prompts(most=20), min_size=1, max_size=4), chunk=st.integers(1, 25))
@torch.inference_mode()
def test_ragged_rows_have_the_logits_of_their_single_runs(thinker, rows, chunk):
    ids, padding = left_pad(rows)
    cache = thinker.new_cache(len(rows))
    logits = [prefill(thinker, ids, cache, padding=padding, chunk=chunk)]
    more = torch.arange(9, 9 + 3 * len(rows)).view(3, len(rows))
    logits += [decode_step(thinker, step, cache, padding=padding) for step in more]
    for place, row in enumerate(rows):
        alone = thinker(torch.cat([row, more[:, place]])[None]).logits[0, len(row) - 1 :]
        torch.testing.assert_close(torch.stack([step[place] for step in logits]), alone, atol=1e-5, rtol=1e-5)


@FEW
@given(thinker=thinkers(), rows=st.lists(prompts(most=20), min_size=2, max_size=4), new=st.integers(1, 12),
       kind=st.sampled_from(["greedy", "chat", "beam"]), seed=st.integers(0, 9))  # fmt: skip
def test_batches_equal_their_rows_and_repeat(thinker, rows, new, kind, seed):
    omni, nothing = Omni(thinker=thinker), MediaFeatures()

    def answer(prompts, seed):
        answers, _ = generate_rows(
            omni, Eager(thinker), prompts, [nothing] * len(prompts), timings=Timings(),
            options=preset(kind, max_new_tokens=new, seed=seed),
        )  # fmt: skip
        return [answer.ids for answer in answers]

    together = answer(rows, seed)
    assert together == answer(rows, seed)
    seeds = row_seeds(seed, [str(row.tolist()).encode() for row in rows]).tolist()
    assert together == [answer([row], own)[0] for row, own in zip(rows, seeds, strict=True)]
    assert all(len(row) <= new and EOS not in row for row in together)


@pytest.mark.parametrize("kv_heads", [1, 4])
@torch.inference_mode()
def test_a_bfloat16_cache_holds_half_the_bytes_and_nearly_the_same(kv_heads):
    torch.manual_seed(0)
    thinker = Thinker(vocab_size=VOCAB, dim=32, num_layers=2, num_heads=4, num_kv_heads=kv_heads, ff_dim=48,
                      max_length=64, short_conv=3).eval()  # fmt: skip
    ids = torch.randint(9, VOCAB, (1, 40))
    exact, half = thinker.new_cache(1), thinker.new_cache(1, dtype=torch.bfloat16)
    assert half.nbytes * 2 == exact.nbytes
    for start in range(0, 40, 7):
        first = thinker(ids[:, start : start + 7], cache=exact).logits.softmax(-1)
        second = thinker(ids[:, start : start + 7], cache=half).logits.softmax(-1)
        assert float((first * (first / second).log()).sum(-1).max()) < 1e-3  # KL


@FEW
@given(text=st.text(max_size=40), stop=st.lists(st.text(min_size=1, max_size=3), max_size=2), cut=st.integers(0, 60))
def test_pieces_join_to_the_text_whatever_the_bytes(engine, text, stop, cut):
    ids = engine.tokenizer.encode(text)[:cut]  # may end within a character
    stream, pieces = Detokenizer(engine.tokenizer, stop=stop), []
    for token in ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    joined = "".join(pieces) + stream.close()
    assert joined == detokenize(engine.tokenizer, ids, stop=stop)
    assert not any(word in joined for word in stop)
    if not stop:
        assert joined == engine.tokenizer.decode(ids)


def test_ragged_prompts_with_different_media_equal_their_single_runs(engine, picture, sound):
    requests = [
        Request(text="what colour is the big red circle", images=[picture, picture]),
        Request(text="tell me"),
        Request(audios=[sound]),
        Request(text="what", images=[picture], audios=[sound, sound]),
        Request(messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "small"},
                          {"role": "user", "content": [{"type": "image", "image": picture}]}]),
    ]  # fmt: skip
    for options in ({}, {"generation": "chat", "seed": 4}, {"generation": "beam"}):
        together = engine.generate_batch(requests, max_new_tokens=8, **options)
        for place, request in enumerate(requests):
            seeded = options | ({"seed": 4 + place} if "seed" in options else {})
            assert engine.generate_batch([request], max_new_tokens=8, **seeded) == [together[place]]
        assert len(set(together)) > 2


def test_streams_equal_answers_and_answers_repeat(engine, picture):
    for options in ({}, {"generation": "chat", "seed": 2}, {"repetition_penalty": 1.5}, {"stop": ["e", " a"]}):
        options = {"image": picture, "max_new_tokens": 24} | options
        answer = engine.generate("what colour", **options)
        assert "".join(engine.generate_stream("what colour", **options)) == answer
        assert engine.generate("what colour", **options) == answer
