"""Choices that rounding could decide are the engine's own."""

import pytest
import torch

from muomni.inference.decoding.options import preset
from muomni.inference.decoding.runtime import Eager
from muomni.inference.decoding.sampling import uniforms
from muomni.inference.prompt import Request
from muomni.inference.scheduling import near_ties, replay, sampling
from muomni.inference.scheduling.near_ties import MARGIN, is_close
from muomni.inference.scheduling.scheduler import Scheduler


def test_close_means_within_the_margin_of_the_largest_logit():
    logits = torch.tensor([[8.0, 8.0 - 8 * MARGIN / 2, 1.0], [8.0, 7.999, -torch.inf], [0.1, 0.1 - MARGIN / 2, 0.0]])
    assert is_close(logits).tolist() == [True, False, True]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 1.0, "top_k": 9},
        {"repetition_penalty": 1.3},
        {"temperature": 1.0, "frequency_penalty": 0.5},
        {"logprobs": 1},
    ],
)
def test_wrong_logits_within_the_margin_change_nothing(engine, receive, monkeypatch, changes):
    """The rounding of a step of several rows, made ten thousand times as large."""
    for module in (near_ties, sampling):
        monkeypatch.setattr(module, "MARGIN", 0.05)
    scheduler = Scheduler(engine, slots=3, prefill_chunk=8)
    exact, noise = scheduler.steps._decode, torch.Generator().manual_seed(0)

    def wrong(rows):
        logits, greedy, as_engine = exact(rows)
        noisy = logits if len(rows) == 1 else logits + 0.01 * torch.rand(logits.shape, generator=noise)
        return noisy, greedy, as_engine

    monkeypatch.setattr(scheduler.steps, "_decode", wrong)
    submitted = []
    for seed, text in enumerate(["red", "blue square", "what colour is the big red circle", "red 2"]):
        options = preset("greedy", max_new_tokens=10, **changes, **({"seed": seed} if "temperature" in changes else {}))
        submitted.append((text, options, receive()))
        scheduler.submit(Request(text=text), options, emit=submitted[-1][2])
    for text, options, receiver in submitted:
        assert receiver.wait().text == engine.generate(text, generation=options)
    assert scheduler.stats().replayed > 0
    scheduler.close(grace=1)


@pytest.mark.parametrize("changes", [{}, {"temperature": 1.0, "seed": 3}, {"repetition_penalty": 1.3}])
def test_under_a_constraint_they_are_those_of_a_scheduler_with_nothing_else_to_do(
    engine, receive, monkeypatch, changes
):
    class Even:
        """Tokens of even ids."""

        accepting = False

        def allowed(self):
            return torch.arange(engine.require_prompter().thinker.vocab_size) % 2 == 0

        def push(self, token):
            assert token % 2 == 0

    for module in (near_ties, sampling):
        monkeypatch.setattr(module, "MARGIN", 0.05)
    options = preset("greedy", max_new_tokens=10, **changes)
    texts = ["red", "blue square", "red 2"]

    def submit(scheduler, text):
        receiver = receive()
        scheduler.submit(Request(text=text), options, emit=receiver, constraint=Even())
        return receiver

    idle = Scheduler(engine, slots=1)
    alone = [submit(idle, text).wait().text for text in texts]
    idle.close(grace=1)
    scheduler, noise = Scheduler(engine, slots=3), torch.Generator().manual_seed(0)
    exact = scheduler.steps._decode

    def wrong(rows):
        logits, greedy, as_engine = exact(rows)
        return logits + 0.01 * torch.rand(logits.shape, generator=noise), greedy, as_engine

    monkeypatch.setattr(scheduler.steps, "_decode", wrong)
    receivers = [submit(scheduler, text) for text in texts]
    assert [receiver.wait().text for receiver in receivers] == alone
    assert scheduler.stats().replayed > 0
    scheduler.close(grace=1)


@pytest.mark.parametrize("seed", [0, 3, 1234567, 2**63 - 1])
def test_a_number_of_a_stream_is_that_of_the_engine(seed):
    for place in (0, 1, 77, 2**20):
        assert sampling.uniform(seed, place) == uniforms(torch.tensor([seed]), place).item()


@torch.inference_mode()
def test_a_replay_that_differs_earlier_is_no_answer(engine):
    prompter, options = engine.require_prompter(), preset("greedy")
    ids = prompter.prompt(Request(text="red"), prompter.model.encode()).ids
    runtime = Eager(prompter.thinker)
    tokens: list[int] = []
    for _ in range(3):
        token, cache = replay.replay(prompter.thinker, runtime, ids, None, options, tokens)
        assert cache.position == len(ids) + len(tokens)
        tokens.append(token)
    tokens[1] += 1
    assert replay.replay(prompter.thinker, runtime, ids, None, options, tokens)[0] is None
