"""Beam search: misses no answer where it has room for all, is greedy decoding with one beam, and keeps rows apart."""

import itertools

import pytest
import torch

from muomni.inference.batch import generate_rows, n_best
from muomni.inference.decoding.options import preset
from muomni.inference.decoding.runtime import Eager
from muomni.inference.decoding.sampling import mask_logits
from muomni.inference.decoding.timings import Timings
from muomni.models.omni import MediaFeatures, Omni
from muomni.special_tokens import BOS, EOS, PIECES, USER
from tests.unit.inference.conftest import tiny_thinker

LETTERS = range(len(PIECES), len(PIECES) + 3)
SMALLEST = len(PIECES) + len(LETTERS)


def model(*, vocab_size=SMALLEST, scale, **changes):
    thinker = tiny_thinker(dim=16, ff_dim=24, max_length=48, vocab_size=vocab_size, **changes)
    thinker.head.weight.data *= scale  # less sure of itself: answers of several lengths are likely
    return Omni(thinker=thinker)


def search(omni, prompts, **options):
    return n_best(
        omni, [torch.tensor(p) for p in prompts], [MediaFeatures()] * len(prompts), timings=Timings(),
        options=preset("greedy", **options),
    )  # fmt: skip


def log_probability(omni, prompt, answer, *, penalty=1.0):
    """Of an answer's tokens, one after the other, without a cache."""
    ids, total = list(prompt), 0.0
    for token in answer:
        seen = torch.zeros(1, omni.thinker.vocab_size, dtype=torch.bool)
        seen[0, [i for i in ids if i >= len(PIECES)]] = True
        logits = mask_logits(omni.thinker(torch.tensor([ids])).logits[:, -1], penalty=penalty, seen=seen)
        total += float(logits.double().log_softmax(1)[0, token])
        ids.append(token)
    return total


@pytest.mark.parametrize(("length_penalty", "penalty"), [(0.0, 1.0), (1.0, 1.0), (2.0, 1.5)])
@torch.inference_mode()
def test_with_room_for_all_it_finds_what_enumeration_finds(length_penalty, penalty):
    """Every answer of at most 3 letters: 1 + 3 + 9 that end, and 27 that the limit cuts."""
    omni, prompt = model(scale=0.3), [BOS, USER, LETTERS[1]]
    every = [[*word, EOS] for n in range(3) for word in itertools.product(LETTERS, repeat=n)]
    every += [list(word) for word in itertools.product(LETTERS, repeat=3)]
    totals = [log_probability(omni, prompt, answer, penalty=penalty) for answer in every]
    scores = [total / len(answer) ** length_penalty for total, answer in zip(totals, every, strict=True)]
    order = sorted(range(len(every)), key=lambda place: -scores[place])
    found = search(omni, [prompt], num_beams=40, max_new_tokens=3, length_penalty=length_penalty,
                   repetition_penalty=penalty)[0]  # fmt: skip
    assert len(found) == len(every) == 40
    assert [h.ids for h in found] == [[i for i in every[place] if i != EOS] for place in order]
    torch.testing.assert_close(torch.tensor([h.score for h in found]), torch.tensor([scores[p] for p in order]))
    assert abs(sum(torch.tensor([h.log_probability for h in found]).exp()) - 1) < 1e-4 or penalty != 1


@torch.inference_mode()
def test_one_beam_is_greedy_decoding():
    omni = model(vocab_size=40, scale=0.5)
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(9, 40, (length,), generator=generator) for length in (3, 9, 6, 1)]
    greedy, _ = generate_rows(
        omni, Eager(omni.thinker), prompts, [MediaFeatures()] * 4, options=preset("greedy", max_new_tokens=20),
        timings=Timings(),
    )  # fmt: skip
    beams = search(omni, [p.tolist() for p in prompts], num_beams=1, max_new_tokens=20)
    assert [[h.ids for h in row] for row in beams] == [[answer.ids] for answer in greedy]


@pytest.mark.parametrize("changes", [{}, {"short_conv": 0, "window": 5}])
@torch.inference_mode()
def test_rows_of_a_batch_are_what_they_are_alone(changes):
    omni = model(vocab_size=40, scale=0.4, **changes)
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(9, 40, (length,), generator=generator).tolist() for length in (2, 11, 5)]
    together = search(omni, prompts, num_beams=4, max_new_tokens=12)
    for prompt, row in zip(prompts, together, strict=True):
        alone = search(omni, [prompt], num_beams=4, max_new_tokens=12)[0]
        assert [h.ids for h in row] == [h.ids for h in alone]
        assert [h.score for h in row] == pytest.approx([h.score for h in alone], abs=1e-4)
        for h in row:
            ended = len(h.ids) < 12 or log_probability(omni, prompt, h.ids) > h.log_probability + 1e-3
            answer = [*h.ids, EOS] if ended else h.ids
            assert log_probability(omni, prompt, answer) == pytest.approx(h.log_probability, abs=1e-3)


def test_an_engine_answers_by_beams_alone_in_batches_and_in_turns(engine):
    options = {"generation": "beam", "max_new_tokens": 8}
    texts = ["what colour", "tell me 1 2 3"]
    ranked = engine.generate_n_best(texts, max_new_tokens=8)
    assert [len(row) for row in ranked] == [4, 4]
    assert all(row == sorted(row, key=lambda answer: -answer[1]) for row in ranked)
    assert engine.generate_batch(texts, **options) == [row[0][0] for row in ranked]
    assert [engine.generate(text, **options) for text in texts] == [row[0][0] for row in ranked]
    assert "".join(engine.generate_stream(texts[0], **options)) == ranked[0][0][0]
    assert engine.generate_n_best([]) == []
    conversation = engine.conversation()
    engine.chat("what colour", conversation=conversation, **options)
    read = conversation.cache.position
    assert conversation.cache.keys.shape[1] == 1
    engine.chat("tell me", conversation=conversation, **options)
    assert conversation.timings.prompt_tokens > 9  # the turn, and the answer before it
    assert conversation.cache.position > read


def test_beams_and_chance_are_refused():
    with pytest.raises(ValueError, match="num_beams=4 is deterministic: set temperature=0"):
        preset("beam", temperature=0.7)
    with pytest.raises(ValueError, match="num_beams=0"):
        preset("beam", num_beams=0)
