"""Pictures of writing: words of a split stay in it, the picture shows its text, every picture by itself."""

import numpy as np
import pytest
from PIL import Image

from datamodules.world import WorldSpec
from datamodules.world.files import read_rows
from datamodules.world.rng import content_split, item_rng
from datamodules.world.writing import LONGEST, draw_writing, words_of, write


def test_no_word_of_a_split_is_one_of_another():
    spec = WorldSpec.of("small")
    seen = {
        split: {word for i in range(400) for word in words_of(spec, split, i)} for split in ("train", "val", "test")
    }
    assert not seen["train"] & (seen["val"] | seen["test"]) and not seen["val"] & seen["test"]
    assert all(content_split(0, "writing", word) == split for split, words in seen.items() for word in words)
    assert max(map(len, seen["train"])) <= LONGEST


def test_an_item_depends_on_its_index_alone(tmp_path):
    spec = WorldSpec.of("ci", train_writings=9)
    more = WorldSpec.of("ci", train_writings=90)
    first = write(spec, tmp_path / "a", "train", 3, 5)
    again = write(more, tmp_path / "b", "train", 3, 5)
    assert first == again
    for row in first:
        assert (tmp_path / "a" / row["image"]).read_bytes() == (tmp_path / "b" / row["image"]).read_bytes()


@pytest.mark.parametrize("lines", [["wwwwwwww"], ["i"], ["abc", "mmmmmmmm"]])
@pytest.mark.parametrize("index", range(6))
def test_the_writing_is_inside_the_image_in_another_brightness(lines, index):
    picture = np.asarray(
        draw_writing(lines, item_rng(0, "train", "handwriting", index), size=64).convert("L"), dtype=float
    )
    paper = np.median(picture)
    ink = np.abs(picture - paper) > 40
    assert ink.sum() >= 8
    edge = np.concatenate((ink[0], ink[-1], ink[:, 0], ink[:, -1]))
    assert edge.mean() < 0.05, "cut off at the edge"


def test_the_world_holds_it(root):
    found = list(read_rows(root / "writing" / "train.jsonl"))
    assert len(found) == 12
    with Image.open(root / "writing" / found[0]["image"]) as picture:
        assert picture.size == (32, 32)
