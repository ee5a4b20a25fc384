"""A scheduler with compiled steps answers as the engine does alone."""

import json
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch

from muomni.frontends.tokenizer import Tokenizer
from muomni.inference.answer import Answer
from muomni.inference.decoding.compiled import Compiled
from muomni.inference.decoding.generate import prefill
from muomni.inference.decoding.options import preset
from muomni.inference.decoding.runtime import Eager
from muomni.inference.engine import Engine
from muomni.inference.errors import InvalidOption
from muomni.inference.prompt import Request
from muomni.inference.scheduling import background_build, compiled_rows
from muomni.inference.scheduling.compiled_rows import CompiledRows
from muomni.inference.scheduling.near_ties import greedy_choices
from muomni.inference.scheduling.scheduler import Scheduler
from muomni.inference.scheduling.slots import SlotCache
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


def traced(rows: CompiledRows, name: str):
    """In the place of `CompiledRows._package`: what is compiled, operation by operation."""
    return lambda arguments: rows.steps[name](*arguments)


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
        monkeypatch.setattr(CompiledRows, name, traced)
    engine = compiled_engine(tokenizer_path, lambda thinker: Traced(thinker, mode=mode, packages=None), **changes)
    scheduler = Scheduler(engine, slots=5)
    assert list(scheduler.steps.compiled.calls) == ["one", "several", "prompt"]
    ask_all(engine, scheduler, receive, ["red", "blue square", "what colour is the big red circle", "1 2 3"] * 2)
    stats = scheduler.stats()
    assert stats.failed == 0
    assert stats.mean_batch > 1
    scheduler.close(grace=1)


def test_a_lone_request_is_computed_by_the_step_of_one_row(tokenizer_path, receive, monkeypatch):
    monkeypatch.setattr(CompiledRows, "_package", traced)
    engine, receiver = compiled_engine(tokenizer_path, Eager), receive()
    scheduler = Scheduler(engine, slots=2, compile="max")
    counted = Counter()
    for name, call in scheduler.steps.compiled.calls.items():
        scheduler.steps.compiled.calls[name] = counting(counted, name, call)
    options = preset("greedy", max_new_tokens=20)
    scheduler.submit(Request(text="what"), options, emit=receiver)
    answer = receiver.wait()
    assert answer.text == engine.generate("what", generation=options)
    assert counted == {"one": answer.completion_tokens - 1 + (answer.finish_reason == "stop"), "prompt": 1}
    scheduler.close(grace=1)
    assert Scheduler(engine, slots=1, compile="max").steps.compiled.names == ("one", "prompt")


@pytest.mark.parametrize(
    "changes", [{}, {"window": 5}, {"window": 5, "full_attention": [0]}, {"short_conv": 0, "tied": True}]
)
def test_prompts_are_read_in_chunks_as_eagerly(changes, monkeypatch):
    monkeypatch.setattr(CompiledRows, "_package", traced)
    thinker = tiny_thinker(**changes)
    with torch.inference_mode():
        cache, other = SlotCache(thinker, rows=4), thinker.new_cache(1)
        rows = CompiledRows(thinker, cache, mode="max", packages=None, max_rows=2)
        ids = torch.arange(20, 51)
        for begin, end in ((0, 7), (7, 8), (8, 30), (30, 31)):  # a chunk of one token is read with the one before it
            logits, greedy = rows.read(ids, 2, begin, end)
            expected = prefill(thinker, ids[None, begin:end], other)
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
            assert greedy[0, 0] == greedy_choices(expected)[0, 0]
        for (buffer, dim), single in zip(cache._buffers(), (other.keys, other.values, other.inputs), strict=False):
            read, expected = buffer[:, 2].narrow(dim, 0, 31), single[:, 0].narrow(dim, 0, 31)
            torch.testing.assert_close(read, expected, rtol=1e-4, atol=1e-5)
            assert not buffer[:, [0, 1, 3]].any()  # other rows are left alone
        assert rows.read(ids, 2, 0, 1) is None
        assert rows.read(ids, 2, 0, cache.capacity) is None  # the last slot cannot be covered


def test_a_prompt_with_media_is_read_by_the_engine_s_own_operations(tokenizer_path, receive, monkeypatch):
    monkeypatch.setattr(CompiledRows, "_package", traced)
    engine, receiver = compiled_engine(tokenizer_path, Eager), receive()
    scheduler = Scheduler(engine, slots=2, compile="max")
    scheduler.steps.compiled.calls["prompt"] = lambda arguments: pytest.fail("compiled")
    read = scheduler.read(Request(text="red"))
    with torch.inference_mode():
        vectors = engine.require_prompter().thinker.embedding(read.ids[None])
    scheduler.submit(replace(read, embeddings=vectors), OPTIONS[0], emit=receiver)
    assert receiver.wait().text == engine.generate("red", generation=OPTIONS[0])
    scheduler.close(grace=1)


def counting(counted, name, call):
    def counter(arguments):
        counted[name] += 1
        return call(arguments)

    return counter


def test_steps_that_are_compiled_in_the_middle_of_an_answer_change_nothing(tokenizer_path, receive, monkeypatch):
    """compile=auto, without a compiler: the packages are there when the builder says so."""
    there, start = [], []

    class Builder:
        def __init__(self, wanted, *, built):
            start.append((json.dumps(wanted), built))

        def stop(self):
            start.append("stopped")

    def find(step, *, key, folder, device):
        def flat(tensors):
            return step(*tensors[:-6], *(tensors[-6:][2 * i : 2 * i + 2] for i in range(3)))

        return flat if key["rows"][0] in there else None

    monkeypatch.setattr(compiled_rows, "BackgroundBuild", Builder)
    monkeypatch.setattr(compiled_rows, "find", find)
    engine = compiled_engine(tokenizer_path, Eager, num_layers=2)
    scheduler = Scheduler(engine, slots=3, compile="auto")
    ((_, built),), steps = start, scheduler.steps
    texts, options = ["red", "blue square", "what colour"], preset("greedy", max_new_tokens=30)
    receivers = [receive() for _ in texts]
    step, at = steps.step, iter(range(10**9))

    def stepping():
        there[:] = {2: ["prompt"], 5: ["prompt", "one"], 10: ["prompt", "one", "several"]}.get(next(at), there)
        assert built() == (len(there) == 3)
        step()

    monkeypatch.setattr(steps, "step", stepping)
    for text, receiver in zip(texts, receivers, strict=True):
        scheduler.submit(Request(text=text), options, emit=receiver)
    for text, receiver in zip(texts, receivers, strict=True):
        assert receiver.wait().text == engine.generate(text, generation=options)
    assert scheduler.stats().failed == 0
    scheduler.close(grace=1)
    assert start[1:] == ["stopped"]


def test_a_builder_that_fails_is_told_in_one_line_and_one_that_runs_ends_with_the_scheduler(
    tokenizer_path, receive, monkeypatch, tmp_path, caplog
):
    caplog.set_level("INFO")
    engine = compiled_engine(tokenizer_path, Eager)
    for code, said in (
        ("input(); sys.exit('compile= needs a C++ compiler')", "answers go on without compiled steps: compile= needs"),
        ("input(); import time; time.sleep(600)", ""),
    ):
        caplog.clear()
        monkeypatch.setattr(background_build, "COMMAND", (sys.executable, "-c", f"import sys; {code}"))
        scheduler, receiver = Scheduler(engine, slots=2, compile="auto", packages=tmp_path), receive()
        building = scheduler.steps.compiled.building
        if said:
            building.thread.join(30)
        scheduler.submit(Request(text="red"), OPTIONS[0], emit=receiver)
        assert receiver.wait().text == engine.generate("red", generation=OPTIONS[0])
        scheduler.close(grace=1)
        assert building.process.wait(30) is not None
        assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"][: 1 + bool(said)]
        assert said in caplog.text


@pytest.mark.parametrize(
    ("mode", "changes", "problem"),
    [
        ("fast", {}, "compile=fast is unknown; available: auto, none, default, max"),
        ("max", {"num_experts": 4, "experts_per_token": 2}, "torch cannot trace a mixture of experts"),
    ],
)
def test_modes_that_are_refused(mode, changes, problem, tokenizer_path):
    engine = compiled_engine(tokenizer_path, Eager, **changes)
    with pytest.raises(InvalidOption, match=problem):
        Scheduler(engine, compile=mode)


def test_what_cannot_be_compiled_is_computed_eagerly_by_auto(tokenizer_path):
    engine = compiled_engine(tokenizer_path, Eager, num_experts=4, experts_per_token=2)
    scheduler = Scheduler(engine, compile="auto")
    assert scheduler.steps.compiled is None
    scheduler.close(grace=1)


def exported(step, example, *, dynamic, key, folder, device):
    """What a package is compiled from, without the compiler."""
    with torch.no_grad():
        module = torch.export.export(step, tuple(example), dynamic_shapes=tuple(dynamic)).module()
    layers = len(example[-1])

    def call(arguments):
        flat = arguments[-3 * layers :]
        return module(*arguments[: -3 * layers], *(flat[index * layers : (index + 1) * layers] for index in range(3)))

    return call


@pytest.mark.slow
def test_the_step_can_be_exported_for_any_number_of_slots(tokenizer_path, receive, monkeypatch):
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


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "auto"])
def test_steps_by_the_compiler_itself(mode, tokenizer_path, receive, tmp_path):
    engine = compiled_engine(tokenizer_path, Eager, num_layers=1)
    scheduler = Scheduler(engine, slots=3, compile=mode, packages=tmp_path)
    texts = ["red", "blue square", "what colour is the big red circle", "1 2 3"] * 2
    ask_all(engine, scheduler, receive, texts)
    if mode == "auto":
        scheduler.steps.compiled.building.thread.join(1200)
        assert len(list(tmp_path.iterdir())) == 3
    assert sorted(scheduler.steps.compiled.calls) == ["one", "prompt", "several"]
    ask_all(engine, scheduler, receive, texts)
    ask_all(engine, scheduler, receive, texts[:1])
    assert scheduler.stats().failed == 0
    scheduler.close(grace=1)
