"""Rows that stay on the disk: the same rows, samples and messages as in a list; computed once; no array of all of them."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import image_cache, large_manifests
from datamodules.base import DataModule
from datamodules.fault_tolerant_loader import SampleReader
from datamodules.fingerprint import changes
from datamodules.image_cache import ImageCache, read_image
from datamodules.image_text import ImageTextData
from datamodules.joined_arrays import write_joined
from datamodules.lazy_rows import LazyRows, column, map_rows, summary
from datamodules.manifests import read_manifest
from datamodules.ocr import OcrData
from datamodules.packs.writer import write_pack
from datamodules.speech import SpeechData
from datamodules.text import TextData
from datamodules.vocoder import VocoderData
from datamodules.waveform_cache import WaveformCache
from muomni.frontends.audio_io import write_audio
from muomni.frontends.image import ImageSpec
from muomni.frontends.mel import MelSpec
from muomni.frontends.tokenizer import Tokenizer

MEL = MelSpec(sample_rate=16000, hop=160, n_fft=1024, win=400, bins=40, f_min=0.0, f_max=8000.0, log=True, floor=1e-5)
SPEC = ImageSpec(size=8, mean=(0.3, 0.3, 0.3), std=(0.3, 0.3, 0.3))


@pytest.fixture
def large(monkeypatch):
    """From here on every manifest and pack counts as large."""

    def switch():
        monkeypatch.setattr(large_manifests, "LARGE_FILE", 1)
        monkeypatch.setattr(large_manifests, "LARGE_PACK", 1)

    return switch


ROWS = [
    {"id": "a", "text": "one", "split": "train", "n": 1},
    {"id": "b", "text": "two", "split": "val"},
    {"text": "three", "split": "train"},
    {"id": "a", "text": "four", "split": "train"},
    {"id": "b", "text": "five é", "split": "train"},
    {"id": 7, "text": "six"},
    {"id": "7", "text": "seven", "split": "val"},
]


def write(path):
    if path.suffix == ".jsonl":
        path.write_text("\n\n".join(map(json.dumps, ROWS)) + "\n")
    elif path.suffix == ".json":
        path.write_text(json.dumps(ROWS))
    elif path.suffix == ".csv":
        lines = [f'{row.get("id", "")},"{row["text"]}",{row.get("split", "")}' for row in ROWS]
        path.write_text("\n".join(["id,text,split", *lines]))
    else:
        path.write_text("one\n\ntwo\n")
    return path


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.txt"])
@pytest.mark.parametrize("split", [None, "train", "val"])
def test_the_rows_of_an_index_are_those_of_the_manifest(tmp_path, large, caplog, name, split):
    path = write(tmp_path / name)
    split = None if name == "x.txt" else split
    small = read_manifest(path, shape="text", split=split)
    said = [record.message.partition("; the first")[0] for record in caplog.records]
    large()
    caplog.clear()
    rows = read_manifest(path, shape="text", split=split, cache=str(tmp_path / "cache"))
    assert isinstance(rows, LazyRows) and list(rows) == small and rows[-1] == small[-1]
    assert [record.message.partition("; the first")[0] for record in caplog.records] == said
    assert list(rows[1:]) == small[1:] and list(pickle.loads(pickle.dumps(rows))) == small
    with pytest.raises(IndexError):
        rows[len(rows)]


def test_bad_rows_are_counted_in_their_split(tmp_path, large, caplog):
    rows = [{"text": f"row {i}", "split": "train" if i < 150 else "val"} for i in range(300)]
    lines = [json.dumps(row) for row in rows]
    lines[3], lines[170], lines[200] = '{"text": 5, "split": "train"}', '{"split": "val"}', "{"
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    for switch in (lambda: None, large):
        switch()
        for split in ("train", None):
            caplog.clear()
            message = ""
            try:
                found = len(read_manifest(tmp_path / "x.jsonl", shape="text", split=split, cache=str(tmp_path)))
            except ValueError as error:
                found, message = 0, str(error)
            if split == "train":
                assert not found and "2 of 151 samples cannot be used (over 1 %)" in message
            else:
                assert found == 297 and "skipped 3 of 300 samples" in caplog.text
    (tmp_path / "y.jsonl").write_text("\n".join(lines[:3] + lines[4:170] + lines[171:200] + lines[201:]))
    there = r"no rows with split 'tset'; there are 'train' \(149 rows\), 'val' \(148 rows\)"
    with pytest.raises(ValueError, match=there):
        read_manifest(tmp_path / "y.jsonl", shape="text", split="tset", cache=str(tmp_path))


def test_an_index_is_written_once_and_again_for_other_content(tmp_path, large, monkeypatch):
    large()
    path, cache = write(tmp_path / "x.jsonl"), str(tmp_path / "cache")
    read_manifest(path, shape="text", cache=cache)
    with monkeypatch.context() as patched:
        patched.setattr(large_manifests, "read_entries", None)
        assert len(read_manifest(path, shape="text", cache=cache)) == 7
    path.write_text('{"text": "another"}\n')
    assert [row["text"] for row in read_manifest(path, shape="text", cache=cache)] == ["another"]


def test_columns_and_summaries_are_computed_once(tmp_path, large):
    large()
    rows = read_manifest(write(tmp_path / "x.jsonl"), shape="text", split="train", cache=str(tmp_path / "cache"))
    calls = []

    def length(row):
        calls.append(row["id"])
        return len(row["text"])

    upper = map_rows(rows, lambda row: row | {"text": row["text"] * 2}, key="twice")
    for _ in range(2):
        assert column(rows, "length", length, dtype=np.int32).tolist() == [3, 5, 4, 6]
        assert column(upper, "length", length, dtype=np.int32).tolist() == [6, 10, 8, 12]
        assert column(rows, "length", lambda row: 0, dtype=np.int32, key="other").tolist() == [0] * 4
        assert summary(rows, "texts", lambda each: sorted(row["text"] for row in each))[0] == "five é"
        assert summary(rows.choose(np.array([0])), "texts", lambda each: len(list(each))) == 1
    assert len(calls) == 2 * len(ROWS)


def text_data(folder, **how):
    options = {
        "train": str(folder / "t.jsonl"), "val": str(folder / "t.jsonl"), "test": {"q": str(folder / "q.jsonl")},
        "length": 16, "max_length": 24, "tokenizer": str(folder / "tokenizer.model"), "vocab_size": 300,
        "tokenizer_root": str(folder), "batch_size": 4, "eval_batch_size": 8, "num_workers": 0, "seed": 0,
        "cache": str(folder / "cache"),
    }  # fmt: skip
    return TextData(**(options | how))


def texts(folder):
    rng = np.random.default_rng(0)
    Tokenizer.train(
        ["the red circle is above a blue square and ann lives in paris"] * 20, 300, folder / "tokenizer.model"
    )
    words = ["the", "red", "circle", "is", "above", "a", "blue", "square"]
    rows = [{"text": " ".join(rng.choice(words, rng.integers(1, 30))), "logprob": -2.0} for _ in range(700)]
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = [
        {"id": i, "prompt": "is the red circle " * (9 if i == 3 else 1), "answer": " a square"} for i in range(200)
    ]
    (folder / "q.jsonl").write_text("\n".join(map(json.dumps, asked)))


def test_documents_of_large_data_are_those_of_small(tmp_path, large, caplog):
    texts(tmp_path)
    small = text_data(tmp_path, length=None)
    splits = {split: small.samples(split) for split in ("train", "val", "test/q")}
    lengths = small.lengths(splits["train"])
    said = [each.message for each in caplog.records if "left out" in each.message]
    large()
    caplog.clear()
    data = text_data(tmp_path, length=None)
    for split, expected in splits.items():
        found = data.samples(split)
        assert len(found) == len(expected) and type(found).__name__ == "LargeDocuments"
        for index in range(len(expected)):
            one, two = found.item(index, 0), expected.item(index, 0)
            assert one.ids.tolist() == two.ids.tolist() and one.prompt == two.prompt
            assert (one.sample_id, one.document_type) == (two.sample_id, two.document_type)
            assert found.name(index) == two.sample_id and (one.floor == two.floor or one.floor != one.floor)
    assert (data.lengths(data.samples("train")) - lengths).max() <= 1 and len(lengths) > 700
    assert [each.message.split(";")[0] for each in caplog.records if "left out" in each.message] == [
        line.split(";")[0] for line in said
    ]


def test_rows_of_large_data_hold_every_token_once_an_epoch(tmp_path, large):
    texts(tmp_path)
    expected = text_data(tmp_path).samples("train")
    large()
    rows = text_data(tmp_path).samples("train")
    assert len(rows) == len(expected) and rows.total == expected.total
    streams = []
    for epoch in (0, 1):
        whole = [rows.item(index, epoch).ids for index in range(len(rows))]
        assert all(len(ids) == 17 for ids in whole)
        assert all(one[-1] == two[0] for one, two in zip(whole[:-1], whole[1:], strict=True))
        streams.append(np.concatenate([ids[:-1] for ids in whole]))
        order = rows._order[:]
        joined = np.concatenate([rows.documents[document] for document in order.tolist()])
        assert sorted(order.tolist()) == list(range(700))
        assert (streams[-1] == joined[: len(streams[-1])]).all() and len(joined) - len(streams[-1]) <= 17
    assert (streams[0] != streams[1]).any()
    assert rows.item(5, 0).ids.tolist() == pickle.loads(pickle.dumps(rows)).item(5, 0).ids.tolist()


def speech(folder):
    rows = []
    for index in range(6):
        samples = 3200 + 1600 * index
        write_audio(folder / f"{index}.wav", 0.3 * torch.sin(torch.arange(samples) * 0.05 * (index + 1)), 16000)
        row = {"audio": f"{index}.wav", "text": f"Text {index}", "speaker": index % 3 + 8}
        rows.append(row | {"id": f"r{index}", "kind": "digits" if index % 2 else "sentence"})
    (folder / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "s.jsonl"


def speech_data(path, **options):
    how = {"mel": MEL, "augment": None, "speakers": None, "test_kinds": ["digits"], "max_seconds": 0.65}
    how |= {"lowercase": True, "in_words": False, "train": str(path), "val": str(path), "test": {"test": str(path)}}
    how |= {
        "batch_size": 2,
        "eval_batch_size": 3,
        "num_workers": 0,
        "seed": 0,
        "symbol_frames": 4,
        "characters": "data",
    }
    return SpeechData(**(how | {"cache": str(path.parent / "cache")} | options))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("options", [{}, {"speakers": [9, 8], "in_words": True, "characters": None}])
def test_clips_of_large_data_are_those_of_small(tmp_path, large, caplog, packed, options):
    path = speech(tmp_path)
    source = tmp_path / "pack" if packed else path
    if packed:
        write_pack(read_manifest(path, shape="speech"), source, shape="speech", shard_bytes=9000, source="", what="x")
    expected = speech_data(path, **options)
    splits = {split: expected.samples(split) for split in ("train", "val", "test/test")}
    large()
    data = speech_data(source, **options)
    for split, small in splits.items():
        found = data.samples(split)
        assert isinstance(found.rows, LazyRows) and len(found) == len(small)
        assert (found.lengths >= small.lengths).all() and (found.lengths - small.lengths).max() <= 1
        for index in range(len(small)):
            one, two = found.item(index, -1), small.item(index, -1)
            assert (one.text, one.speaker, one.sample_id) == (two.text, two.speaker, two.sample_id)
            assert (one.mel == two.mel).all() and one.characters.tolist() == two.characters.tolist()
    assert data.characters == expected.characters


def test_a_recording_of_large_data_that_breaks_is_left_out(tmp_path, large):
    """Before training by its header, and in training when it is drawn."""
    path = speech(tmp_path)
    lines = path.read_text().splitlines() * 40
    path.write_text("\n".join([*lines[:3], lines[3].replace("3.wav", "bad.wav"), *lines[4:]]))
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    large()
    samples = speech_data(path, max_seconds=60.0).samples("train")
    assert len(samples) == 239
    reader = SampleReader(samples, broken={}, workers=0)
    (tmp_path / "0.wav").write_bytes(b"RIFF....WAVE")
    read, faults = reader.__getitems__([0, 1])
    assert [sample.sample_id for sample in read] == ["r1"] and "r0: cannot read" in faults[0][1]


def test_crops_of_large_data_are_those_of_small(tmp_path, large):
    how = {"mel": MEL, "seconds": 0.1, "gain": 2.0, "codec_share": 0.5, "test_kinds": None, "test_clips": None}
    path = speech(tmp_path)
    how |= {"memory_mb": 10, "train": str(path), "val": str(path), "test": {}, "cache": str(tmp_path)}
    how |= {"batch_size": 2, "eval_batch_size": 3, "num_workers": 0, "seed": 0}
    small = VocoderData(**how).samples("train")
    large()
    found = VocoderData(**how).samples("train")
    assert isinstance(found.rows, LazyRows) and len(found) == len(small)
    for index in range(len(small)):
        one, two = found.item(index, 1), small.item(index, 1)
        assert (one.samples == two.samples).all() and one.through_codec == two.through_codec


@pytest.mark.parametrize("shape", ["image_text", "ocr"])
def test_images_of_large_data_are_those_of_small(tmp_path, large, shape):
    rows = []
    for index in range(6):
        Image.new("RGB", (16, 16), (40 * index, 10, 200)).save(tmp_path / f"{index}.png")
        rows.append({"image": f"{index}.png", "captions": ["a red dot", f"a blue dot {index}"], "text": f"dot {index}"})
    (tmp_path / "i.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Tokenizer.train(["a red dot and a blue dot"] * 20, 300, tmp_path / "tokenizer.model")
    how = {"image": SPEC, "memory_mb": 1, "train": str(tmp_path / "i.jsonl"), "val": None, "test": {}}
    how |= {"batch_size": 2, "eval_batch_size": 3, "num_workers": 0, "seed": 0, "cache": str(tmp_path / "cache")}
    if shape == "ocr":
        how |= {"max_characters": 9, "augment": None, "characters": "data"}
    else:
        how |= {"tokenizer": str(tmp_path / "tokenizer.model"), "vocab_size": 400, "tokenizer_root": str(tmp_path)}
        how |= {"max_length": 40, "probe_pictures": None}
    kind = OcrData if shape == "ocr" else ImageTextData
    small = kind(**how)
    expected = small.samples("train")
    large()
    data = kind(**how)
    found = data.samples("train")
    assert isinstance(found.rows, LazyRows)
    for index in range(6):
        one, two = (data.collate([samples.item(index, 3)]) for samples in (found, expected))
        assert (one.images == two.images).all() and (one.ids == two.ids).all() and one.sample_ids == two.sample_ids


def test_images_beyond_memory_are_kept_in_a_file(tmp_path, monkeypatch, caplog):
    paths = []
    for index in range(5):
        path = tmp_path / f"{index}.png"
        Image.effect_noise((9, 9), 40 + index).convert("RGB").save(path)
        paths.append(str(path))
    memory = ImageCache(paths, SPEC, memory_mb=1)
    disk = ImageCache(paths, SPEC, memory_mb=0, cache=str(tmp_path / "cache"))
    read = []
    monkeypatch.setattr(image_cache, "read_image", lambda *a, **k: read.append(a) or read_image(*a, **k))
    for _ in range(2):
        for index in (3, 1, 4, 0, 2):
            assert (disk[index] == memory[index]).all()
    assert len(read) == 10 and not any((tmp_path / "cache").iterdir()), "the file has no name"
    assert (pickle.loads(pickle.dumps(disk))[3] - memory[3]).abs().max() < 1e-2
    monkeypatch.setattr(image_cache, "DISK_SHARE", 0.0)
    ImageCache(paths, SPEC, memory_mb=0, cache=str(tmp_path / "cache"))
    assert "5 images are decoded whenever they are drawn" in caplog.text


def test_recordings_beyond_memory_are_kept_in_a_file(tmp_path):
    rows = read_manifest(speech(tmp_path), shape="speech")
    memory = WaveformCache(rows, sample_rate=16000, memory_mb=10, what="x")
    disk = WaveformCache(rows, sample_rate=16000, memory_mb=0, what="x", cache=str(tmp_path / "cache"))
    for row in rows:
        (tmp_path / row["audio"]).unlink()
    assert all((disk[index] == memory[index]).all() for index in range(6))
    assert not any((tmp_path / "cache").iterdir())


def test_arrays_are_joined_in_a_file_as_they_come(tmp_path):
    arrays = [np.random.default_rng(i).normal(size=(i * 7 % 11, 3)).astype(np.float16) for i in range(20)]
    ends = write_joined(tmp_path / "a.npy", iter(arrays), shape=(3,), dtype=np.float16)
    found = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert (found == np.concatenate(arrays)).all() and found.dtype == np.float16
    assert ends.tolist() == np.cumsum([len(array) for array in arrays]).tolist()


class Rows(DataModule):
    def load(self, path, split, *, phase):
        return self.read_rows(path, split, shape="text", phase=phase)


def test_a_swapped_data_set_is_refused_by_name(tmp_path):
    texts(tmp_path)
    rows = read_manifest(tmp_path / "t.jsonl", shape="text")
    for name, part in (("one", rows), ("two", rows[::-1])):
        write_pack(part, tmp_path / name, shape="text", shard_bytes=30_000, source=name, what="x")

    def data(name):
        how = {"batch_size": 4, "eval_batch_size": 4, "num_workers": 0, "seed": 0}
        return Rows(train=str(tmp_path / name), val=None, test={}, **how)

    state = {"Rows": {"data": data("one").data()}}
    data("one").check_data(state, path="x", named=False)
    message = r"data\.train is another file than when it began: was .*one, is .*two\)"
    with pytest.raises(ValueError, match=message):
        data("two").check_data(state, path="x", named=False)
    old = {"files": {"train": "x"}, "samples": 700, "seed": 0}  # of a checkpoint without names
    assert changes(old, data("one").data()) == "data.train is another file than when it began"


def test_held_out_batches_are_no_lists_of_numbers(tmp_path):
    texts(tmp_path)
    how = {"batch_size": 4, "eval_batch_size": 8, "num_workers": 0, "seed": 0}
    data = Rows(train=None, val=str(tmp_path / "t.jsonl"), test={}, **how)
    data._sets["val"] = range(10_000_000)
    assert all(isinstance(batch, range) for batch in data.val_dataloader().batch_sampler)
    assert sum(map(len, data.val_dataloader().batch_sampler)) == 10_000_000
