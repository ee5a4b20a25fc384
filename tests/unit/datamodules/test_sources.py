"""Where a stage's data comes from."""

import pytest

from datamodules import sources
from datamodules.formats import Reading
from datamodules.sources import resolve_sources, world_subsets

WORLD = {"train": "text/train.jsonl", "val": "text/val.jsonl", "test": {"test": "text/test.jsonl"}}
OWN = {
    "kind": "text", "train": "a", "val": None, "test": None, "train_split": "train", "val_split": "dev",
    "test_split": None,
}  # fmt: skip


def resolve(**data):
    return resolve_sources({**OWN, **data}, stage="thinker", shape="text", world=WORLD)


def test_a_manifest_of_your_own():
    assert resolve(val="b", test="c") == {
        "train": "a", "val": "b", "test": {"test": "c"}, "splits": {"train": "train", "val": "dev", "test": None},
        "root": None, "reading": Reading(),
    }  # fmt: skip
    assert resolve(root="media")["root"] == "media"
    assert resolve(test={"x": "1", "y": "2"})["test"] == {"x": "1", "y": "2"}
    assert resolve()["val"] == "a", "without held-out data the training data is validated on"
    assert resolve()["test"] == {}


def test_a_shape_that_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match=r"data=speech does not fit stage=thinker, which reads data=text \(or data=world\)"
    ):
        resolve(kind="speech")


def test_of_the_world_only_the_needed_subsets_are_built(monkeypatch, tmp_path):
    asked = {}

    def build(spec, root, subsets):
        asked.update(seed=spec.seed, root=root, subsets=subsets)
        return tmp_path / "w"

    monkeypatch.setattr(sources, "build_world", build)
    data = {"kind": "world", "root": str(tmp_path), "preset": "ci", "seed": 4}
    found = resolve_sources(data, stage="thinker", shape="text", world=WORLD)
    assert asked == {"seed": 4, "root": tmp_path, "subsets": ("text",)}
    assert found["test"] == {"test": str(tmp_path / "w" / "text" / "test.jsonl")}


def test_what_is_learnt_along_comes_from_the_world_or_the_user(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "build_world", lambda spec, root, subsets: tmp_path / "w")
    along = {**WORLD, "replay": "text/old.jsonl"}
    world = {"kind": "world", "root": str(tmp_path), "preset": "ci"}
    found = resolve_sources(world, stage="omni_sft", shape="sft", world=along)
    assert found["replay"] == str(tmp_path / "w" / "text" / "old.jsonl")
    own = {**OWN, "replay": "mine.jsonl"}
    assert resolve_sources(own, stage="omni_sft", shape="text", world=along)["replay"] == "mine.jsonl"


def test_instructions_need_all_media():
    assert world_subsets(WORLD) == ("text",)
    instructions = {"train": "instructions/train.jsonl", "val": "instructions/val.jsonl", "test": {}}
    assert world_subsets(instructions) == ("text", "pictures", "speech", "instructions")
