"""Damaged input: the harness sees each kind of failure, and a few inputs of each target are answered or refused."""

import json
import os
import signal
import time
from collections import Counter

import pytest
import torch

from benchmarks.fuzz import __main__ as fuzz
from benchmarks.fuzz import media
from benchmarks.fuzz.ask import no_nan
from benchmarks.fuzz.harness import BAD, BrokenAnswerError, Limits, Outcomes, Target, make_input, try_all
from benchmarks.fuzz.mutate import damage_bytes, damage_tree


def raises(error):
    raise error


#: number of the input -> what using it does, and the outcome that this is.
CASES = [
    (lambda path: None, "taken"),
    (lambda path: raises(ValueError(f"{path}: the header is damaged")), "refused"),
    (lambda path: raises(ValueError("bad")), "unclear"),
    (lambda path: raises(ValueError("the header of a case is damaged")), "unclear"),
    (lambda path: raises(ValueError(f"{path}: the header is damaged\nand the rest, too")), "unclear"),
    (lambda path: raises(RuntimeError("mat1 and mat2 shapes cannot be multiplied")), "unclear"),
    (lambda path: raises(KeyError("dim")), "traceback"),
    (lambda path: time.sleep(60), "hang"),
    (lambda path: sum(number for number in iter(int, 1)), "hang"),
    (lambda path: bytearray(8 << 30), "memory"),
    (lambda path: os.kill(os.getpid(), signal.SIGSEGV), "crash"),
    (lambda path: os._exit(3), "crash"),
    (lambda path: raises(BrokenAnswerError("NaN was answered")), "broken"),
    (lambda path: None, "taken"),
]


def test_each_failure_is_counted_and_costs_its_own_input_alone(tmp_path):
    def make(rng, folder):
        number = int(next(counter))
        (folder / "a.bin").write_text(str(number))
        return folder / "a.bin"

    def use(path):
        CASES[int(path.read_text())][0](path)

    for number, (_, expected) in enumerate(CASES):
        counter = iter([number])
        limits = Limits(seconds=0.2 if expected == "hang" else 60.0, memory=1 << 30)
        found = try_all(Target("case", make, use), [number], seed=0, folder=tmp_path, limits=limits)
        assert found.counts == {expected: 1}, (number, found)
        assert len(found.bad) == (expected in BAD)


def test_inputs_after_a_dead_process_are_still_tried(tmp_path):
    target = Target("dies", lambda rng, folder: rng.random(), lambda value: os._exit(0) if value < 0.5 else None)
    found = try_all(target, range(12), seed=0, folder=tmp_path, limits=Limits(seconds=5.0))
    assert sum(found.counts.values()) == 12
    assert found.counts["crash"] > 2 and found.counts["taken"] > 2


def test_an_input_that_cannot_be_made_costs_itself_alone(tmp_path):
    made = []

    def make(rng, folder):
        made.append(folder)
        return 1 / (len(made) - 2)

    found = try_all(Target("makes", make, lambda value: None), range(4), seed=0, folder=tmp_path, limits=Limits())
    assert found.counts == {"taken": 3, "crash": 1}
    assert found.bad[0].startswith("makes:1 crash") and "ZeroDivisionError" in found.bad[0]


def test_there_are_seeds_of_every_format():
    """What a library cannot write is left out, and must not become all of a format."""
    images, sounds = media.image_seeds(), media.sound_seeds()
    assert {suffix for suffix, _ in images} == {name.lower() for name in media.IMAGE_FORMATS}
    assert {suffix for suffix, _ in sounds} == set(media.SOUNDS)
    assert len(images) >= 90 and len(sounds) >= 35
    assert {suffix for suffix, _ in media.video_seeds()} >= {"gif", "webp", "png"}


def test_an_input_is_a_function_of_its_number(tmp_path):
    for name in ("image", "sound", "manifest", "ngram"):
        contents = []
        for folder in ("a", "b"):
            make_input(fuzz.TARGETS[name], 5, seed=3, folder=tmp_path / folder)
            contents.append({path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()})
        assert contents[0] == contents[1]


def test_damage_changes_something_and_leaves_the_seed_alone():
    import random

    seed = bytes(range(256))
    assert sum(damage_bytes(seed, random.Random(n)) != seed for n in range(100)) > 90
    tree = {"a": [1, {"b": 2.5}], "c": "text"}
    assert sum(damage_tree(tree, random.Random(n)) != tree for n in range(100)) > 80
    assert tree == {"a": [1, {"b": 2.5}], "c": "text"}


def test_a_file_collects_runs_of_several_targets_and_seeds(tmp_path):
    for name, seed in (("image", 0), ("sound", 0), ("image", 1), ("image", 0)):
        fuzz.keep(tmp_path / "a.json", {name: Outcomes(Counter(taken=3 + seed), ["x"] * seed)}, seed=seed)
    assert json.loads((tmp_path / "a.json").read_text()) == [
        {"target": "image", "seed": 0, "taken": 3, "bad": []},
        {"target": "sound", "seed": 0, "taken": 3, "bad": []},
        {"target": "image", "seed": 1, "taken": 4, "bad": ["x"]},
    ]


def test_an_answer_out_of_a_layer_of_nan_is_broken():
    class Answering:
        modules = {"thinker": torch.nn.Sequential(torch.nn.Linear(2, 2))}

    with no_nan(Answering()):
        Answering.modules["thinker"](torch.zeros(2))
    with pytest.raises(BrokenAnswerError, match="Linear gave NaN"), no_nan(Answering()):
        Answering.modules["thinker"](torch.full((2,), float("nan")))


def test_an_unknown_target_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="targets=nothing: available are image"):
        fuzz.main(["targets=nothing"])


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_nothing_but_answers_and_refusals(name):
    """The short form of `python -m benchmarks.fuzz`."""
    inputs = {"override": 1, "call": 8, "checkpoint": 2, "description": 4, "weights": 2, "single": 3, "export": 3}.get(
        name, 10
    )
    found = fuzz.run([name], inputs=inputs, seed=1, limits=Limits(seconds=60.0))[name]
    assert not found.bad, found.bad
    assert sum(found.counts.values()) == inputs
