"""Answers with finish reasons, counts and log-probabilities, alone, in a batch, in a conversation and by beam search."""

import pytest
import torch

from muomni.inference.batch import n_best
from muomni.inference.decoding.generate import prefill
from muomni.inference.decoding.logprobs import token_bytes, token_text
from muomni.inference.decoding.options import preset
from muomni.inference.decoding.timings import Timings
from muomni.inference.errors import InvalidOption, MuomniError
from muomni.inference.load import load_model
from muomni.inference.prompt import Request
from muomni.special_tokens import EOS, PIECES

TEXTS = ["what colour", "tell me 1 2 3", "a small blue square"]
OPTIONS = [
    {"frequency_penalty": 1.5},
    {"presence_penalty": 2.0, "generation": "chat"},
    {"no_repeat_ngram": 2},
    {"min_new_tokens": 12},
    {"logit_bias": {20: 3.0, EOS: -100}},
    {"repetition_penalty": 1.3, "no_repeat_ngram": 1, "frequency_penalty": -0.5, "min_new_tokens": 3},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_rows_of_a_batch_and_turns_equal_single_runs(engine, options):
    common = {"max_new_tokens": 16, **options}
    seeds = [{"seed": row} if "generation" in options else {} for row in range(3)]
    alone = [engine.answer(text, **common, **seed) for text, seed in zip(TEXTS, seeds, strict=True)]
    together = engine.answer_batch(TEXTS, **common)
    for one, row in zip(alone, together, strict=True):
        assert (one.text, one.finish_reason) == (row.text, row.finish_reason)
        assert (one.prompt_tokens, one.completion_tokens) == (row.prompt_tokens, row.completion_tokens)
    plain = engine.generate_batch(TEXTS, max_new_tokens=16)
    assert "min_new_tokens" in options or [one.text for one in alone] != plain


@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[2], OPTIONS[3], OPTIONS[4]])
def test_beams_take_the_options(engine, options):
    common = {"max_new_tokens": 14, "num_beams": 3, **options}
    best = engine.answer("what colour", **common)
    row = engine.answer_batch(["what colour"], **common)[0]
    assert (best.text, best.finish_reason) == (row.text, row.finish_reason) and best.completion_tokens > 0
    if "no_repeat_ngram" in options:
        prompter, request = engine.prompter, Request(text="what colour")
        prompt, chosen = prompter.prompt(request, prompter.encode_media(request)), preset("greedy", **common)
        ids = n_best(prompter.model, [prompt.ids], [prompt.features], options=chosen, timings=Timings())[0][0].ids
        assert engine.tokenizer.decode(ids) == best.text
        pairs = list(zip(ids, ids[1:], strict=False))
        assert len(set(pairs)) == len(pairs)
    if "min_new_tokens" in options:
        assert best.completion_tokens >= 12


def test_a_forced_token_is_the_whole_answer_and_logprobs_are_the_models_own(engine):
    answer = engine.answer("tell me", max_new_tokens=4, logit_bias={50: 100}, logprobs=2)
    assert [token.id for token in answer.logprobs] == [50] * 4
    for token in answer.logprobs:  # the bias is not in them
        assert token.logprob <= token.top[0][2] and token.top[0][0] != 50


@torch.inference_mode()
def test_logprobs_are_the_log_softmax_of_the_logits(engine):
    answer = engine.answer("what colour", max_new_tokens=8, logprobs=3, generation="chat", seed=5, presence_penalty=1.0)
    prompter, request = engine.prompter, Request(text="what colour")
    ids = prompter.prompt(request, prompter.encode_media(request)).ids.tolist()
    assert len(answer.logprobs) == answer.completion_tokens == 8
    for token in answer.logprobs:
        row = torch.tensor([ids])
        log_probs = prefill(prompter.thinker, row, prompter.thinker.new_cache(1))[0].log_softmax(dim=0)
        values, best = log_probs.topk(3)
        assert token.logprob == pytest.approx(float(log_probs[token.id]), abs=1e-4)
        assert [top[0] for top in token.top] == best.tolist()
        assert [top[2] for top in token.top] == pytest.approx(values.tolist(), abs=1e-4)
        ids.append(token.id)
    spelled = [token_bytes(engine.tokenizer, t.id, first=i == 0) for i, t in enumerate(answer.logprobs)]
    assert b"".join(spelled).decode(errors="ignore") == answer.text.replace("\ufffd", "")


def test_the_tokens_of_the_pieces_are_those_of_the_answer(engine):
    for options in ({}, {"stop": ["e", "o"]}):
        stream = engine.answer_stream("tell me 1 2 3", max_new_tokens=20, logprobs=0, **options)
        with pytest.raises(RuntimeError, match="after the last piece"):
            _ = stream.answer
        pieces = list(stream)
        assert "".join(piece.text for piece in pieces) == stream.answer.text
        assert [token for piece in pieces for token in piece.tokens] == stream.answer.logprobs
        assert stream.answer.timings is stream.timings
        batch = engine.answer_batch(["tell me 1 2 3"], max_new_tokens=20, logprobs=0, **options)[0]
        assert [token.id for token in batch.logprobs] == [token.id for token in stream.answer.logprobs]
        assert [t.logprob for t in batch.logprobs] == pytest.approx(
            [t.logprob for t in stream.answer.logprobs], abs=1e-5
        )
    assert engine.answer("tell me", max_new_tokens=2).logprobs is None


def test_the_reason_that_an_answer_ended(engine):
    whole = engine.answer("tell me", max_new_tokens=5)
    assert (whole.finish_reason, whole.completion_tokens) == ("length", 5)
    assert engine.answer("tell me", max_new_tokens=5, stop=[whole.text[2]]).finish_reason == "stop"
    ended = engine.answer("tell me", max_new_tokens=5, logit_bias={EOS: 100})
    assert (ended.text, ended.finish_reason, ended.completion_tokens) == ("", "stop", 0)
    for beams in (1, 2):
        rows = engine.answer_batch(["tell me"] * 2, max_new_tokens=5, logit_bias={EOS: 100}, num_beams=beams)
        assert [row.finish_reason for row in rows] == ["stop"] * 2
        rows = engine.answer_batch(["tell me"], max_new_tokens=5, min_new_tokens=5, num_beams=beams)
        assert rows[0].finish_reason == "length"


def test_a_turn_counts_what_the_cache_held(engine):
    conversation = engine.conversation()
    first = engine.answer("what colour", conversation=conversation, max_new_tokens=6)
    held = conversation.cache.position
    second = engine.answer("tell me", conversation=conversation, max_new_tokens=6)
    assert first.cached_tokens == 0 and second.cached_tokens == held
    assert second.prompt_tokens == held + second.timings.prompt_tokens
    assert held == first.prompt_tokens + first.completion_tokens - 1


def test_a_compiled_engine_answers_such_requests_by_its_modules(export, engine):
    """The compiled step would be built at its first call: none is, here."""
    compiled = load_model(export, device="cpu", compile="default")
    for options in ({"no_repeat_ngram": 2}, {"logprobs": 1}):
        mine, eager = (each.answer("tell me", max_new_tokens=6, **options) for each in (compiled, engine))
        assert (mine.text, mine.logprobs) == (eager.text, eager.logprobs)
    assert not compiled.runtime.calls


def test_mistakes_name_the_option(engine):
    for call, param in (
        (lambda: engine.answer("x", logit_bias={5000: 1}), "logit_bias"),
        (lambda: engine.answer_batch(["x"], logit_bias={5000: 1}), "logit_bias"),
        (lambda: engine.answer("x", logprobs=30), "logprobs"),
        (lambda: engine.answer("x", num_beams=2, logprobs=3), "logprobs"),
        (lambda: engine.answer("x", heat=2), "heat"),
        (lambda: engine.answer("x", conversation="it"), "conversation"),
        (lambda: engine.answer("x", generation="hot"), "generation"),
        (lambda: engine.transcript(torch.zeros(16000), speed=2), "speed"),
    ):
        with pytest.raises(InvalidOption) as caught:
            call()
        assert caught.value.param == param
    assert issubclass(InvalidOption, MuomniError) and issubclass(MuomniError, ValueError)


def test_texts_of_tokens(engine):
    tokenizer = engine.tokenizer
    ids = tokenizer.encode("tell me 1 ü")
    assert "".join(token_text(tokenizer, token, first=index == 0) for index, token in enumerate(ids)).startswith(
        "tell me 1 "
    )
    assert token_text(tokenizer, EOS, first=False) == PIECES[EOS]
