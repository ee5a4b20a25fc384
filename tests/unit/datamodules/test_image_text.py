"""Pictures with captions: twins, captions by epoch, limits."""

import json

import pytest
import torch
from PIL import Image

from datamodules.image_batch_augment import ImageBatchAugment
from datamodules.image_cache import ImageCache
from datamodules.image_text import ImageTextData, located_objects, twins
from muomni.frontends.image import ImageFrontend, ImageSpec, read_image
from muomni.frontends.tokenizer import Tokenizer
from muomni.special_tokens import PAD

SPEC = ImageSpec(size=8, mean=(0.3, 0.3, 0.3), std=(0.3, 0.3, 0.3))
TWINS = {0: 1, 1: 0, 2: 4, 3: None, 4: 2, 5: 9}


@pytest.fixture
def folder(tmp_path):
    Tokenizer.train(["a red dot and a blue dot at the top"] * 20, 300, tmp_path / "tokenizer.model")
    rows = []
    for index in range(6):
        Image.new("RGB", (16, 16), (40 * index, 10, 200)).save(tmp_path / f"{index}.png")
        captions = [f"a red dot {index}", f"a blue dot {index} at the top"]
        twin = None if TWINS[index] is None else f"p{TWINS[index]}"
        rows.append({"id": f"p{index}", "image": f"{index}.png", "captions": captions, "twin": twin})
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def make(folder, **changes):
    options = {
        "image": SPEC, "tokenizer": str(folder / "tokenizer.model"),
        "vocab_size": 400, "tokenizer_root": str(folder / "tokenizers"), "max_length": 40, "memory_mb": 1, "probe_pictures": 4,
        "train": str(folder / "train.jsonl"), "val": None, "test": {"probe": str(folder / "train.jsonl")},
        "batch_size": 2, "eval_batch_size": 3, "num_workers": 0, "seed": 0,
    }  # fmt: skip
    return ImageTextData(**(options | changes))


def test_batches_are_padded_and_keep_twins_together(folder):
    data = make(folder)
    assert data.groups(data.samples("train")) == [[0, 1], [2, 4], [3], [5]]  # p5 names a row that is not there
    batch = data.collate([data.samples("train").item(index, -1) for index in (0, 1)])
    assert batch.images.shape == (2, 3, 8, 8) and batch.captions == ["a red dot 0", "a red dot 1"]
    assert batch.lengths.tolist() == (batch.ids != PAD).sum(1).tolist()


def test_captions_change_with_the_epoch_and_repeat_with_the_seed(folder):
    drawn = [[make(folder).samples("train").item(i, e).caption for i in range(6)] for e in (0, 1, 0)]
    assert drawn[0] == drawn[2] and drawn[0] != drawn[1]


def test_training_batches_are_augmented_by_epoch_and_index_and_others_are_not(folder):
    data = make(folder, augment=ImageBatchAugment(shift=3, colour=0.5))
    samples = data.samples("train")

    def images(collate, *drawn):
        return collate([samples.item(index, epoch) for index, epoch in drawn]).images

    plain = images(data.collate, (0, 1), (1, 1))
    changed = images(data.collate_train, (0, 1), (1, 1))
    assert (changed - plain).flatten(1).abs().amax(1).min() > 0.01
    assert torch.equal(images(data.collate_train, (1, 1), (2, 1))[:1], changed[1:]), "whatever the batch"
    assert not torch.equal(images(data.collate_train, (0, 2)), changed[:1])
    assert torch.equal(images(make(folder).collate_train, (0, 1), (1, 1)), plain)


def test_the_probe_reads_a_part_of_the_training_pictures(folder, caplog):
    assert len(make(folder).samples("test/probe")) == 4
    assert "train.jsonl: 2 of 6 rows are left out: datamodule.probe_pictures=4" in caplog.text
    assert len(make(folder, probe_pictures=None).samples("test/probe")) == 6
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    for index, row in enumerate(rows):
        row["split"] = "train" if index == 0 else "test"
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    splits = {"train": "train", "test": "test"}
    assert len(make(folder, splits=splits).samples("test/probe")) == 5, "others of the same file are not seen again"


def test_stored_pictures_are_the_frontends_own(folder):
    paths = [str(folder / f"{index}.png") for index in range(3)]
    expected = ImageFrontend(SPEC)(read_image(paths[2]))
    for memory in (0, 1):
        store = ImageCache(paths, SPEC, memory_mb=memory)
        for _ in range(2):  # decoded, then from memory
            assert torch.allclose(store[2], expected, atol=2e-3)


def test_long_captions_are_cut_and_counted(folder, caplog):
    samples = make(folder, max_length=3).samples("train")
    assert all(len(samples.item(index, -1).ids) == 3 for index in range(6))
    assert "12 of 12 captions are longer than 3 tokens" in caplog.text


def test_objects_without_a_place_are_none():
    here = {"colour": "red", "shape": "dot", "cell": 4}
    assert located_objects([here, {"name": "dog"}]) == [here]
    assert located_objects({"dog": 2}) == located_objects(None) == located_objects("dog") == []


def test_without_a_tokenizer_one_is_trained_on_the_captions_or_on_a_text(folder):
    of_captions = make(folder, tokenizer=None)
    assert of_captions.tokenizer_path.parent.parent == folder / "tokenizers"
    assert of_captions.tokenizer.vocab_size < 400, "captions of a few words have no 400 pieces"
    (folder / "text.jsonl").write_text('{"id": "0", "text": "seven purple boats"}\n')
    of_text = make(folder, tokenizer=None, text=str(folder / "text.jsonl"))
    assert of_text.tokenizer.fingerprint() != of_captions.tokenizer.fingerprint()


def test_held_out_twins_are_neighbours_and_know_their_group(folder):
    data = make(folder, test={"test": str(folder / "train.jsonl"), "probe": str(folder / "train.jsonl")}, train=None)
    samples = data.samples("test/test")
    assert [samples.name(index) for index in range(6)] == ["p0", "p1", "p2", "p4", "p3", "p5"]
    assert data.collate([samples.item(index, -1) for index in range(6)]).groups == ["p0", "p0", "p2", "p2", "p3", "p5"]


def test_every_row_is_in_one_group_whatever_its_twin_says():
    """Ids that occur twice, rows that name themselves, each other in a ring, or no id at all: none is lost, none is twice."""
    for ids, others in (
        (["y", "x", "x"], ["x", "y", "y"]), (["a", "b"], ["a", "b"]), (["a", "b", "c"], ["b", "c", "a"]),
        (["a", "b", "c"], [["b"], {"a": 1}, None]), (["a", "b"], ["b", "a"]), (["1", "2"], [2, 1]),
    ):  # fmt: skip
        rows = [{"id": name, "twin": twin} for name, twin in zip(ids, others, strict=True)]
        groups = twins(rows)
        assert sorted(index for group in groups for index in group) == list(range(len(rows))), (ids, others)
    assert groups == [[0, 1]]


def test_objects_that_the_probes_cannot_read_are_left_out():
    objects = [
        {"cell": 3, "colour": "red", "shape": 7},
        {"cell": "top"},
        {"cell": 9},
        {"cell": True},
        {"shape": "dot"},
        "x",
        None,
    ]
    assert located_objects(objects) == [{"cell": 3, "colour": "red"}] and located_objects({"cell": 1}) == []
