"""An engine that was compiled: its scheduler answers by compiled steps, as the engine does alone."""

import pytest
import torch

from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.answer import Answer
from muomni.inference.decoding.compiled import Compiled
from muomni.inference.decoding.options import preset
from muomni.inference.decoding.runtime import Eager
from muomni.inference.engine import Engine
from muomni.inference.prompt import Request
from muomni.inference.scheduling import compiled_rows
from muomni.inference.scheduling.compiled_rows import CompiledRows, row_counts
from muomni.inference.scheduling.running import Running
from muomni.inference.scheduling.scheduler import Scheduler
from tests.unit.inference.conftest import tiny_thinker

OPTIONS = [
    preset("greedy", max_new_tokens=30),
    preset("chat", max_new_tokens=30, seed=3),
    preset("greedy", max_new_tokens=20, repetition_penalty=1.4),
    preset("greedy", max_new_tokens=9, logprobs=1),
    preset("greedy", max_new_tokens=None),
    preset("greedy", max_new_tokens=12, stop=("e",)),
]


class Traced(Compiled):
    """The step as it is compiled, run operation by operation."""

    def _jit(self, step, arguments):
        return lambda arguments: step(*arguments)

    _package = _jit


def compiled_engine(tokenizer_path, runtime, **changes) -> Engine:
    thinker = tiny_thinker(**changes)
    engine = Engine(
        modules={"thinker": thinker}, metadata={"stage": "omni_sft"}, where="test", format="chat",
        tokenizer=Tokenizer.load(tokenizer_path), device=torch.device("cpu"), vocoder="griffin_lim",
    )  # fmt: skip
    engine.runtime = runtime(thinker)
    return engine


def ask_all(engine, scheduler, receive, texts) -> None:
    """Every answer equals the engine's; the requests come at once."""
    submitted = []
    for index, text in enumerate(texts):
        receiver, options = receive(), OPTIONS[index % len(OPTIONS)]
        scheduler.submit(Request(text=text), options, emit=receiver)
        submitted.append((text, options, receiver))
    for text, options, receiver in submitted:
        result, expected = receiver.wait(), engine.answer(text, generation=options)
        assert isinstance(result, Answer), result
        assert (result.text, result.finish_reason) == (expected.text, expected.finish_reason)


@pytest.mark.parametrize(
    ("mode", "changes"),
    [("default", {}), ("max", {}), ("max", {"window": 7}), ("max", {"short_conv": 0, "tied": True})],
)
def test_answers_are_those_of_the_compiled_engine(mode, changes, tokenizer_path, receive, monkeypatch):
    for name in ("_jit", "_package"):
        monkeypatch.setattr(CompiledRows, name, lambda self, rows: lambda arguments: self.step(*arguments))
    engine = compiled_engine(tokenizer_path, lambda thinker: Traced(thinker, mode=mode, packages=None), **changes)
    scheduler = Scheduler(engine, slots=5)
    assert list(scheduler.steps.compiled.calls) == [2, 4, 8]
    ask_all(engine, scheduler, receive, ["red", "blue square", "what colour is the big red circle", "1 2 3"] * 2)
    stats = scheduler.stats()
    assert stats.failed == 0
    assert stats.mean_batch > 1
    scheduler.close(grace=1)


def test_a_lone_request_takes_the_engines_own_calls(tokenizer_path, receive, monkeypatch):
    monkeypatch.setattr(CompiledRows, "_package", lambda self, rows: None)
    engine = compiled_engine(tokenizer_path, lambda thinker: Traced(thinker, mode="max", packages=None))
    scheduler, receiver = Scheduler(engine, slots=2), receive()
    scheduler.submit(Request(text="what"), OPTIONS[0], emit=receiver)
    assert receiver.wait().text == engine.generate("what", generation=OPTIONS[0])
    scheduler.close(grace=1)


def test_row_counts_cover_all_numbers_of_requests():
    assert row_counts(1, 2) == [2]
    assert row_counts(4, 8) == [2, 4]
    assert row_counts(5, 10) == [2, 4, 8]
    assert row_counts(8, 16) == [2, 4, 8]


def exported(step, example, *, dynamic, key, folder, device):
    """What a package is compiled from, without the compiler."""
    with torch.no_grad():
        module = torch.export.export(step, tuple(example), dynamic_shapes=tuple(dynamic)).module()
    layers = len(example[3])

    def call(arguments):
        flat = arguments[3:]
        return module(*arguments[:3], *(flat[index * layers : (index + 1) * layers] for index in range(3)))

    return call


@pytest.mark.slow
def test_the_step_can_be_exported_for_any_number_of_slots(tokenizer_path, receive, monkeypatch):
    monkeypatch.setattr(Running, "can_run_alone", False)
    monkeypatch.setattr(compiled_rows, "find_or_build", exported)
    engine = compiled_engine(tokenizer_path, lambda thinker: Traced(thinker, mode="max", packages=None), num_layers=1)
    plain = compiled_engine(tokenizer_path, Eager, num_layers=1)
    scheduler, receivers = Scheduler(engine, slots=2), [receive(), receive()]
    for receiver, options in zip(receivers, OPTIONS[:2], strict=True):
        scheduler.submit(Request(text="red"), options, emit=receiver)
    for receiver, options in zip(receivers, OPTIONS[:2], strict=True):
        assert receiver.wait().text == plain.generate("red", generation=options)
    assert scheduler.stats().failed == 0
    scheduler.close(grace=1)
