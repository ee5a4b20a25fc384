"""What an export may say is bounded before anything is made of it: one table for every option and fact."""

import inspect
import time

import pytest
import yaml

import muomni.models  # noqa: F401  (registers every part)
from muomni.checkpoints.schema import (
    DEEPEST,
    METADATA,
    OPTIONS,
    Bound,
    bound_of,
    check_metadata,
    check_options,
    plain_data,
    read_yaml,
)
from muomni.models.registry import ARCHITECTURES


def options_of(part):
    return {name: p for name, p in inspect.signature(part.__init__).parameters.items() if name != "self"}


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_every_option_of_every_part_has_its_bound(kind):
    for name, parameter in options_of(ARCHITECTURES[kind]).items():
        bound = bound_of(kind, name)
        assert bound is not None, f"{kind}.{name}: give it a line in muomni/checkpoints/schema.py"
        if parameter.default is not inspect.Parameter.empty:
            assert bound.allows(parameter.default), (kind, name)
    known = {name for part in ARCHITECTURES.values() for name in options_of(part)}
    assert {name.rpartition(".")[2] for name in OPTIONS} <= known


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_wrong_types_and_sizes_are_refused(name):
    bound, (kind, _, name) = OPTIONS[name], f".{name}".rpartition(".")
    kind = kind.lstrip(".") or "thinker"
    wrong = [float("nan"), float("inf"), 10**9, -1, [1] * (bound.many + 9), [[1]], ["x"]]
    wrong += [] if bound.kind is dict or bound.table else [{"a": 1}]
    wrong += [] if bound.kind is str else ["12", ""]
    wrong += [] if bound.kind is bool else [True]
    wrong += [] if bound.null else [None]
    if name.endswith("rope_theta"):  # a base of 10**9 is in use
        wrong.remove(10**9)
    for value in wrong:
        with pytest.raises(ValueError, match=rf"^x: options do not fit {kind}: {name}=") as error:
            check_options(kind, {name: value}, tensors=None, where="x")
        assert len(str(error.value)) < 300


def test_what_is_built_so_often_is_in_the_file_as_often():
    check_options("thinker", {"num_layers": 12}, tensors=12, where="x")
    with pytest.raises(ValueError, match="num_layers=900, but the file holds 12 tensors of it"):
        check_options("thinker", {"num_layers": 900}, tensors=12, where="x")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"run": 3}, "the facts of 'run' are damaged: 3: a table"),
        ({"run": {"level": "high"}}, "the facts of 'run' are damaged: level='high': a number"),
        ({"mel": {"n_fft": 10**9}}, "the facts of 'mel' are damaged: n_fft=1000000000: a whole number from 1 to"),
        ({"codec_mel": {"hop": 1.5}}, "the facts of 'codec_mel' are damaged: hop=1.5"),
        ({"image": {"mean": "grey"}}, "the facts of 'image' are damaged: mean='grey': a list of at most 3"),
        ({"image": {"size": True}}, "size=True"),
        ({"corrections": 10**9}, "the facts of 'corrections' are damaged"),
        ({"alphabet": ["a"]}, "the facts of 'alphabet' are damaged"),
        ({"micro_omni": []}, "the facts of 'micro_omni' are damaged"),
    ],
)
def test_facts_are_bounded_too(metadata, message):
    with pytest.raises(ValueError, match=message):
        check_metadata(metadata, where="x")


def test_facts_that_are_unknown_or_missing_are_left_alone():
    check_metadata({"colour": "red", "stage": None}, where="x")
    assert all(isinstance(bound, Bound | dict) for bound in METADATA.values())


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS, MERGES, "[" * 5000, "{a: " * 5000, "- " * 5000, "&a [*a]", "x: 2001-13-45", "x: !!int ''", "x: !!float y",
        "x: !!timestamp y", "x: !!binary '*'", "? [a]\n: b", "a: .nan", "a: {b: [1, .inf]}", "1: 2", "x: 2001-01-01",
        "x: " + "9" * 5000, "!!python/object:os.system {}", "\x00", "a: b: c", "x: !!set {a}", "[1, 2",
        "\n".join(f"a{n}: 1" for n in range(30_000)),
    ],
)  # fmt: skip
def test_yaml_from_someone_else_is_one_quick_line(text):
    start = time.process_time()
    with pytest.raises(ValueError, match=r"^file: ") as error:
        read_yaml(text, where="file")
    assert time.process_time() - start < 20
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 500


def test_what_is_written_is_read():
    shared = {"hop": 160}
    document = {"mel": shared, "codec_mel": shared, "list": [1, 2.5, True, None, "x"], "theta": 1e9}
    assert "*id001" in yaml.safe_dump(document)
    assert read_yaml(yaml.safe_dump(document), where="x") == document


def test_the_place_of_a_nan_is_named():
    with pytest.raises(ValueError, match=r"^x: facts\.mel\.0\.floor is nan"):
        plain_data({"facts": {"mel": [{"floor": float("nan")}]}}, where="x")
    deep = []
    for _ in range(DEEPEST + 2):
        deep = [deep]
    with pytest.raises(ValueError, match="within each other"):
        plain_data(deep, where="x")
    with pytest.raises(ValueError, match=r"x: facts is a set"):
        plain_data({"facts": {1}}, where="x")
