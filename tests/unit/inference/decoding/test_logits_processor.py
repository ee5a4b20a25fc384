"""Bias, penalties, n-grams and minimum length, by numbers computed by hand."""

import pytest
import torch

from muomni.inference.decoding.logits_processor import LogitsProcessor, repeating
from muomni.inference.decoding.options import GenerationOptions
from muomni.inference.decoding.sampling import Sampler
from muomni.inference.errors import InvalidOption
from muomni.special_tokens import EOS, PIECES

V = 14
A, B, C = range(len(PIECES), len(PIECES) + 3)


def processor(rows=1, **options):
    return LogitsProcessor(GenerationOptions(**options), rows=rows, vocab_size=V, device="cpu")


def flat(**logits):
    row = torch.zeros(1, V)
    for name, value in logits.items():
        row[0, {"a": A, "b": B, "c": C, "eos": EOS}[name]] = value
    return row


def test_frequency_and_presence_penalties_are_those_of_openai():
    """logit - count * frequency_penalty - (count > 0) * presence_penalty"""
    process = processor(frequency_penalty=0.5, presence_penalty=0.25)
    for token in (A, B, A):
        process.push(torch.tensor([token]))
    assert torch.equal(process(flat(a=3.0, b=2.0, c=1.0)), flat(a=3.0 - 2 * 0.5 - 0.25, b=2.0 - 0.5 - 0.25, c=1.0))


def test_only_generated_tokens_count():
    sampler = Sampler(GenerationOptions(frequency_penalty=2.0), device="cpu")
    sampler.note(torch.tensor([[A, A, A]]), V)  # the prompt
    chosen = [int(sampler(flat(a=3.0, b=2.5))) for _ in range(3)]
    assert chosen == [A, B, A]  # a at 3, then at 1 against 2.5, then at 1 against 0.5


def test_a_bias_is_added_and_may_forbid_or_force_a_token():
    assert torch.equal(processor(logit_bias={A: -1.5, C: 4.0})(flat(a=1.0)), flat(a=-0.5, c=4.0))
    for bias, chosen in (({A: -100}, B), ({C: 100}, C), ({}, A)):
        assert int(Sampler(GenerationOptions(logit_bias=bias), device="cpu")(flat(a=3.0, b=2.0))) == chosen
    with pytest.raises(InvalidOption, match="token 14 is not in the vocabulary of 14") as caught:
        processor(logit_bias={V: 1})
    assert caught.value.param == "logit_bias"


def test_the_argument_stays_as_it_is():
    logits = flat(a=1.0)
    process = processor(min_new_tokens=2, no_repeat_ngram=1, frequency_penalty=1.0, logit_bias={A: 1})
    for _ in range(2):
        process(logits)
        process.push(torch.tensor([A]))
    assert torch.equal(logits, flat(a=1.0))


def test_an_n_gram_that_would_repeat_is_found_by_row():
    tokens = torch.tensor([[A, B, C, A, B], [A, A, A, A, A], [A, B, C, C, B]])
    found = [row.nonzero().flatten().tolist() for row in repeating(tokens, n=3, vocab_size=V)]
    assert found == [[C], [A], []]
    found = [row.nonzero().flatten().tolist() for row in repeating(tokens, n=2, vocab_size=V)]
    assert found == [[C], [A], [C]]
    found = [row.nonzero().flatten().tolist() for row in repeating(tokens, n=1, vocab_size=V)]
    assert found == [[A, B, C], [A], [A, B, C]]


def test_no_n_gram_repeats_in_an_answer():
    sampler = Sampler(GenerationOptions(no_repeat_ngram=2), device="cpu")
    chosen = [int(sampler(flat(a=3.0, b=2.0, c=1.0))) for _ in range(6)]
    assert chosen == [A, A, B, A, C, A]  # aa ab ba ac ca, by hand


def test_the_end_token_waits_for_the_minimum_length():
    sampler = Sampler(GenerationOptions(min_new_tokens=2), device="cpu")
    assert [int(sampler(flat(eos=9.0, a=1.0))) for _ in range(3)] == [A, A, EOS]


def test_an_answer_that_can_only_repeat_itself_ends():
    sampler = Sampler(GenerationOptions(min_new_tokens=9, no_repeat_ngram=1), device="cpu")
    chosen = [int(sampler(torch.zeros(1, V))) for _ in range(V - len(PIECES) + 1)]
    assert chosen == [*range(len(PIECES), V), EOS]


def test_rows_are_independent_and_reordered_with_the_beams():
    process = processor(rows=2, no_repeat_ngram=1, presence_penalty=1.0)
    process.push(torch.tensor([A, B]))
    process.reorder(torch.tensor([1, 1]))
    out = process(torch.zeros(2, V))
    assert torch.equal(out[0], out[1]) and out[0, B] == -torch.inf and out[0, A] == 0


def test_logits_that_are_not_finite_are_still_noticed():
    options = GenerationOptions(min_new_tokens=1, no_repeat_ngram=1, presence_penalty=1.0, logit_bias={A: 1})
    from muomni.inference.decoding.sampling import INVALID_TOKEN

    assert int(Sampler(options, device="cpu")(flat(b=float("nan")))) == INVALID_TOKEN
