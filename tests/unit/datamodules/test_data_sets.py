"""Data sets by name: what is read with whose options, what is refused, and validation of one after the other."""

import json
import re

import pytest

from datamodules.data_sets import Concatenation, data_sets
from datamodules.fingerprint import digests
from datamodules.formats import Reading
from datamodules.sources import resolve_sources
from datamodules.text import TextData

SPLITS = {"train": None, "val": None, "test": None}


def data(**options):
    return {
        "kind": "text", "train": None, "val": None, "test": None, "train_split": None, "val_split": None, "test_split": None,
        "sets": None, "mixture": None, **options,
    }  # fmt: skip


@pytest.fixture
def files(tmp_path):
    """Two texts of training and two of validation."""
    found = {}
    for name, count in (("a", 40), ("b", 60), ("a_val", 5), ("b_val", 9)):
        found[name] = str(tmp_path / f"{name}.jsonl")
        rows = [json.dumps({"text": f"{name} says the number {number} aloud"}) for number in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    return found


def sources(files):
    both = {"a": {"train": files["a"], "val": files["a_val"]}, "b": {"train": files["b"], "val": files["b_val"]}}
    given = data(sets=both, mixture={"a": 0.7, "b": 0.3})
    return resolve_sources(given, stage="thinker", shape="text", world={"train": "", "val": "", "test": {}})


def text_data(files, tmp_path, **options):
    defaults = {
        "batch_size": 10, "eval_batch_size": 4, "num_workers": 0, "seed": 0, "length": None, "max_length": 64, "tokenizer": None,
        "vocab_size": 320, "tokenizer_root": str(tmp_path / "tokenizers"), "pack": 64,
    }  # fmt: skip
    return TextData(**defaults | sources(files) | options)


def test_a_mixture_trains_on_its_shares_and_validates_one_set_at_a_time(files, tmp_path):
    made = text_data(files, tmp_path)
    loader = iter(made.train_dataloader())
    for _ in range(5):
        names = [name.rpartition("/")[2].partition(".")[0] for name in next(loader).sample_ids]
        assert (names.count("a"), names.count("b")) == (7, 3)
    batches = list(made.val_dataloader())
    found = [{name.rpartition("/")[2].partition("_")[0] for name in batch.sample_ids} for batch in batches]
    assert found == [{name} for name in made.val_sets]
    assert made.val_sets == ["a", "b", "a", "b", "b"], "in turns, so that a limit reaches each"
    assert set(made.data()["files"]) == {"sets.a.train", "sets.a.val", "sets.b.train", "sets.b.val"}


def test_the_tokenizer_is_of_all_sets(files, tmp_path):
    both = text_data(files, tmp_path)
    alone = tmp_path / "alone"
    alone.mkdir()
    one = TextData(
        train=files["a"], val=None, test={}, batch_size=4, eval_batch_size=4, num_workers=0, seed=0, length=None, max_length=64,
        tokenizer=None, vocab_size=300, tokenizer_root=str(alone),
    )  # fmt: skip
    assert both.tokenizer.fingerprint() != one.tokenizer.fingerprint()


def test_a_set_has_options_of_its_own():
    found = data_sets(
        data(root="R", train_split="x", sets={"a": "a.csv", "b": {"train": "b.csv", "root": "B", "val_split": "dev"}},
             mixture={"a": 1, "b": 3}),
        splits={**SPLITS, "train": "x"}, reading=lambda keys: Reading(),
    )  # fmt: skip
    assert [(each.train, each.val, each.options["root"], float(each.share)) for each in found] == [
        ("a.csv", None, "R", 0.25),
        ("b.csv", "b.csv", "B", 0.75),
    ]
    assert [each.options["splits"]["val"] for each in found] == [None, "dev"]
    assert all(each.options["splits"]["train"] == "x" for each in found)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mixture": {"a": 1}}, "there are sets none; weights of a"),
        ({"sets": {"a": "x"}, "mixture": {"b": 1}}, "there are sets a; weights of b"),
        ({"sets": {"a": "x"}, "mixture": {"a": 1}, "train": "y"}, "data.train=y and data.sets: give one of them"),
        ({"sets": {"a": {"val": "x"}}, "mixture": {"a": 1}}, "data.sets.a: no train"),
        ({"sets": {"a": {"train": "x", "path": "y"}}, "mixture": {"a": 1}}, "data.sets.a: unknown path"),
        ({"sets": {"a-b": "x"}, "mixture": {"a-b": 1}}, "data.sets.a-b: metrics are named by it"),
    ],
)
def test_mistakes_are_named(options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        data_sets(data(**options), splits=SPLITS, reading=lambda keys: Reading())


def test_a_mixture_needs_something_to_validate_on():
    with pytest.raises(ValueError, match="none is validated on"):
        resolve_sources(data(sets={"a": "x"}, mixture={"a": 1}), stage="thinker", shape="text", world={})


def test_a_missing_file_is_named_by_its_set(files, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data.sets.a.train=.*: no such file"):
        text_data({**files, "a": str(tmp_path / "gone.jsonl")}, tmp_path)


def test_the_fingerprint_is_of_each_set(files):
    found = digests(data(sets={"a": files["a"], "b": {"train": files["b"], "val": files["b_val"]}}))
    assert set(found) == {"sets.a.train", "sets.b.train", "sets.b.val"}
    assert len(set(found.values())) == 3


def test_samples_are_named_by_their_set():
    class Set:
        def __init__(self, count):
            self.count = count

        def __len__(self):
            return self.count

        def item(self, index, epoch):
            return index, epoch

        def name(self, index):
            return f"row{index}"

    both = Concatenation(["a", "b"], [Set(2), Set(3)])
    assert len(both) == 5
    assert (both.name(1), both.name(2), both.item(4, 7)) == ("a: row1", "b: row0", (2, 7))


def test_what_has_the_shares_is_a_batch_or_a_bucket():
    sets = {"sets": {"a": {"train": "x", "val": "y"}}, "mixture": {"a": 1}}
    for within in ("batch", "bucket"):
        found = resolve_sources(data(**sets, mixture_within=within), stage="thinker", shape="text", world={})
        assert found["mixture_within"] == within
    with pytest.raises(ValueError, match="data.mixture_within=epoch: choose batch or bucket"):
        resolve_sources(data(**sets, mixture_within="epoch"), stage="thinker", shape="text", world={})
