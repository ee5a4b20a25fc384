"""Pictures of writing: targets, long texts, broken rows."""

import json

import pytest
import torch
from PIL import Image

from datamodules.image_augment import ImageAugment
from datamodules.ocr import OcrData
from muomni.frontends.char_vocab import encode_symbols
from muomni.frontends.image import ImageSpec
from muomni.special_tokens import BOS, EOS, IGNORE, PAD, PIECES

SPEC = ImageSpec(size=16, mean=(0.5,) * 3, std=(0.3,) * 3, fit="letterbox")


@pytest.fixture
def manifest(tmp_path):
    rows = []
    for name, text in (("a", "cat"), ("b", "a b"), ("c", "x" * 12)):
        Image.new("RGB", (40, 10), (9, 9, 9)).save(tmp_path / f"{name}.png")
        rows.append({"id": name, "image": f"{name}.png", "text": text})
    path = tmp_path / "writing.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def make(manifest, **changes):
    options = {"image": SPEC, "max_characters": 8, "memory_mb": 1, "augment": None, "train": str(manifest), "val": None,
               "test": {"same": str(manifest)}, "batch_size": 2, "eval_batch_size": 2, "num_workers": 0, "seed": 0}  # fmt: skip
    return OcrData(**(options | changes))


def test_the_text_follows_the_picture(manifest):
    data = make(manifest)
    samples = data.samples("train")
    batch = data.collate([samples.item(0, 0), samples.item(1, 0)])
    assert batch.images.shape == (2, 3, 16, 16) and batch.texts == ["cat", "a b"]
    first = len(PIECES)  # the space, the first of the printable characters
    assert encode_symbols(" a") == [first, first + ord("a") - ord(" ")]
    assert batch.ids.tolist() == [[BOS, *encode_symbols("cat")], [BOS, *encode_symbols("a b")]]
    assert batch.targets.tolist() == [[*encode_symbols("cat"), EOS], [*encode_symbols("a b"), EOS]]


def test_shorter_texts_are_padded(manifest):
    data = make(manifest, max_characters=12)
    samples = data.samples("train")
    batch = data.collate([samples.item(0, 0), samples.item(2, 0)])
    assert batch.ids[0, 4:].tolist() == [PAD] * 9 and batch.targets[0, 4:].tolist() == [IGNORE] * 9


def test_what_is_too_long_is_left_out_of_training_and_an_error_in_a_test(manifest):
    data = make(manifest)
    assert len(data.samples("train")) == 2
    with pytest.raises(
        ValueError, match=r"c: 12 characters, the model writes at most 8; set backbone\.ocr\.max_characters"
    ):
        data.samples("test/same")
    with pytest.raises(ValueError, match="every text is longer than 2"):
        make(manifest, max_characters=2).samples("train")


def test_training_pictures_move_and_others_stand(manifest):
    Image.linear_gradient("L").save(manifest.parent / "a.png")
    train = make(manifest, augment=ImageAugment(shift=2, contrast=0.0)).samples("train")
    still = train.item(0, -1)[0]
    drawn = [train.item(0, epoch)[0] for epoch in range(8)]
    assert torch.equal(train.item(0, 3)[0], drawn[3]), "a function of (seed, epoch, index)"
    assert any(not torch.equal(picture, still) for picture in drawn)
    assert torch.equal(make(manifest, augment=None).samples("train").item(0, 3)[0], still)


def test_writing_in_another_script_is_refused_or_learnt(manifest):
    rows = [json.loads(line) | {"text": "дом"} for line in manifest.read_text().splitlines()]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=r"over 1 %.*writing\.jsonl: 9 of 9 characters cannot be written"):
        make(manifest, val=str(manifest)).read("fit")
    data = make(manifest, val=str(manifest), characters="data")
    data.read("fit")
    batch = data.collate([data.samples("val").item(0, -1)])
    assert data.characters == "дмо" and batch.targets.tolist() == [[*encode_symbols("дом", "дмо"), EOS]]
    assert batch.targets.max() <= len(PIECES) - 1 + 3


def test_a_test_in_another_script_is_said_and_does_not_forbid_the_training(manifest, tmp_path, caplog):
    rows = [json.loads(line) | {"text": "дом"} for line in manifest.read_text().splitlines()]
    other = manifest.with_name("russian.jsonl")
    other.write_text("\n".join(map(json.dumps, rows)))
    make(manifest, max_characters=40, val=str(manifest), test={"ru": str(other)}).read("fit")
    assert "russian.jsonl: 9 of 9 characters cannot be written" in caplog.text


def test_texts_that_are_too_long_to_learn_are_counted(manifest, caplog):
    count = len(manifest.read_text().splitlines())
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows[0]["text"] = "x" * 50
    manifest.write_text("\n".join(map(json.dumps, rows)))
    assert len(make(manifest, max_characters=40).samples("train")) == count - 1
    assert f"writing.jsonl: 1 of {count} rows are left out: longer than 40 characters" in caplog.text
