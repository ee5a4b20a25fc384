"""Data that is wrong, in every format: named by file and row, counted, never silent."""

import datetime
import decimal
import json
import pickle
import re
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.formats import BadRow, Reading, read_entries
from datamodules.manifests import read_manifest
from datamodules.media import AudioClip
from datamodules.sources import resolve_sources
from muomni.frontends.audio_io import decode_audio
from muomni.frontends.chat import media_of
from tests.conftest import ROOT
from tests.unit.datamodules import format_data
from tests.unit.datamodules.format_data import audio, cell, jsonl, lines, picture, table
from tests.unit.datamodules.test_speech import build as speech


@pytest.fixture
def clips(tmp_path):
    """200 rows of one good recording."""
    audio(tmp_path, 0)
    return [{"audio": "0.wav", "text": f"text {n}"} for n in range(200)]


def refusal(path, shape, **how):
    with pytest.raises(ValueError) as error:
        read_manifest(path, shape=shape, **how)
    assert "\n" not in str(error.value)
    return str(error.value)


# one bad row among many: counted and named; the message begins with its place
def kaldi(folder, **changes):
    """200 utterances of one recording, files changed."""
    audio(folder, 0)
    texts = {
        "wav.scp": [f"u{n} {folder}/0.wav" for n in range(200)],
        "text": [f"u{n} hello" for n in range(200)],
    }
    for name, change in changes.items():
        change(texts.setdefault(name.replace("_", "."), []))
    for name, content in texts.items():
        lines(folder / name, *content)
    return folder


def put(number, line):
    return lambda content: content.__setitem__(number, line)


KALDI = [
    (
        {"wav_scp": put(4, "u4 sph2pipe -f wav a.sph |")},
        "text:5: wav.scp:5: sph2pipe -f wav a.sph | is a program to run",
    ),
    ({"wav_scp": put(4, "u4 raw.ark:1234")}, "text:5: wav.scp:5: raw.ark:1234 is inside an archive"),
    ({"wav_scp": put(4, "u3 0.wav"), "text": put(4, "u5 x")}, "wav.scp:5: u3 a second time"),
    ({"text": put(4, "v4 hello")}, "text:5: v4 is not in wav.scp"),
    ({"text": put(4, "u4")}, "text:5: empty or missing 'text'"),
    ({"wav_scp": put(4, "u4 none.wav")}, "text:5: missing file none.wav"),
    (
        {"segments": lambda content: content.extend([*(f"u{n} u{n} 0 0.1" for n in range(199)), "u199 u199 0 0.1 2"])},
        "text:200: segments:200: u199 0 0.1 2 names a channel: write the channels",
    ),
    ({"utt2spk": lambda content: content.extend(f"u{n} ann" for n in range(199))}, "text:200: u199 is not in utt2spk"),
    (
        {"utt2spk": lambda content: content.extend([*(f"u{n} ann" for n in range(200)), "u7 bob"])},
        "utt2spk:201: u7 a second time",
    ),
]


@pytest.mark.parametrize(("changes", "message"), KALDI)
def test_a_line_of_kaldi_is_named(tmp_path, changes, message, caplog):
    path = kaldi(tmp_path, **changes)
    read_manifest(path, shape="speech")
    assert f"of 200 samples; the first: {path}/{message}" in caplog.text.replace("of 201", "of 200")


def test_a_segment_beyond_its_recording_is_named(tmp_path, caplog):
    folder = format_data.speech_kaldi_segments(tmp_path)
    many = [f"u{n} rec 0 0.2" for n in range(200)]
    lines(folder / "segments", *many, "last rec 90 91")
    lines(folder / "text", *(f"u{n} hello" for n in range(200)), "last hello")
    (folder / "utt2spk").unlink()
    assert len(speech(folder, val=None, test={}).samples("train")) == 200
    assert "skipped 1 of 201 samples; the first: last: the audio file" in caplog.text
    lines(folder / "segments", *many, "last rec 2 1")
    assert len(read_manifest(folder, shape="speech")) == 200
    assert f"{folder}/text:201: 'segment' is [2.0, 1.0]: begin and end in seconds are needed" in caplog.text


def test_a_segment_may_end_half_a_second_late(tmp_path):
    """Times are rounded; what ends later is another recording, as Kaldi has it."""
    file = str(audio(tmp_path, 0))  # 0.25 s
    assert len(decode_audio(AudioClip(file, 0.05, 0.75), 16000).waveform) == 3200
    with pytest.raises(ValueError, match=r"0.wav has 0.25 s: it ends inside 0.05 to 0.76"):
        AudioClip(file, 0.05, 0.76).read()


def test_a_tab_parts_an_utterance_from_its_text_or_is_one_of_it(tmp_path):
    path = kaldi(tmp_path, text=lambda content: content.__setitem__(slice(2), ["u0\thello there", "u1  hello\tthere"]))
    assert [row["text"] for row in read_manifest(path, shape="speech")[:2]] == ["hello there", "hello\tthere"]


def escapes(folder):
    """Folders of every format whose tables name media by themselves, the second of which leaves it."""
    away = "../../../away"
    for name in ("m", "cv/clips", "lj/wavs", "libri/1/2"):
        audio(folder / "in" / name, 0)
    for name in ("coco/train", "flickr/Images"):
        picture(folder / "in" / name, 0)
    audio(folder, 0, "away"), picture(folder, 0, "away")
    inside = folder / "in"
    table(inside / "m/metadata.csv", [{"file_name": f"{n}.wav", "text": "x"} for n in ("0", away)])
    cv = [{"client_id": "s", "path": f"{n}.wav", "sentence": "x"} for n in ("0", away)]
    table(inside / "cv/train.tsv", cv, delimiter="\t")
    lines(inside / "lj/metadata.csv", "0|x|x", f"{away}|x|x")
    lines(inside / "libri/1/2/1-2.trans.txt", "0 x", f"{away} x")
    named = [{"id": n, "file_name": f"{name}.png"} for n, name in enumerate(("0", away))]
    captions = [{"image_id": n, "caption": "x"} for n in range(2)]
    lines(inside / "coco/annotations/captions_train.json", json.dumps({"images": named, "annotations": captions}))
    table(inside / "flickr/captions.txt", [{"image": f"{n}.png", "caption": "x"} for n in ("0", away)])
    return [(inside / name, "speech") for name in ("m", "cv", "lj", "libri/1/2")] + [
        (inside / name, "image_text") for name in ("coco", "flickr")
    ]


def test_a_table_names_no_media_outside_of_its_folder(tmp_path):
    for path, shape in escapes(tmp_path):
        entries = [entry for _, entry in read_entries(path, shape=shape)]
        (bad,) = (entry for entry in entries if isinstance(entry, BadRow))
        assert len(entries) == 2 and re.search(r"\.\./away\S* leaves /", str(bad)), path


def test_suffixes_in_capitals_are_found_and_bars_named(tmp_path):
    audio(tmp_path / "wavs", 0).rename(tmp_path / "wavs" / "0.WAV")
    lines(tmp_path / "metadata.csv", "0|a | b|c", *["0|x|x"] * 200)
    found = list(read_entries(tmp_path, shape="speech"))
    assert str(found[0][1]) == "cells: 4; ID|text|normalised text is needed"
    assert found[1][1]["audio"] == str(tmp_path / "wavs" / "0.WAV")


MEDIA = [
    (b"", "cannot read .* as audio"),
    (
        b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\0\0\0\0",
        "is empty: it holds no samples",
    ),
    (
        b"RIFF\x28\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x07\0\0\0\x0e\0\0\0\2\0\x10\0data\4\0\0\0\1\0\1\0",
        "says 7 Hz; 1000 to",
    ),
]


@pytest.mark.parametrize(("content", "message"), MEDIA)
def test_recordings_without_length_or_with_a_wrong_rate(tmp_path, clips, content, message, caplog):
    """In a file, and in a cell of Parquet."""
    (tmp_path / "bad.wav").write_bytes(content)
    clips[6]["audio"] = "bad.wav"
    manifest = jsonl(tmp_path / "m.jsonl", clips)
    cells = pa.array([cell(tmp_path / row["audio"]) for row in clips])
    pq.write_table(pa.table({"audio": cells, "text": [row["text"] for row in clips]}), tmp_path / "m.parquet")
    for path, place in ((manifest, f"{tmp_path}/m.jsonl:7"), (tmp_path / "m.parquet", f"{tmp_path}/m.parquet:7")):
        caplog.clear()
        assert len(speech(path, val=None, test={}).samples("train")) == 199
        (record,) = [each.message for each in caplog.records if "skipped 1 of 200" in each.message]
        assert place in record and "\n" not in record
        assert re.search(message, record)


def test_empty_images_are_named(tmp_path, caplog):
    picture(tmp_path / "train/cat", 0)
    for n in range(150):
        (tmp_path / f"train/cat/c{n:03}.png").write_bytes((tmp_path / "train/cat/0.png").read_bytes())
    (tmp_path / "train/cat/c007.png").write_bytes(b"")
    (tmp_path / "train/cat/note.txt").write_text("x")
    assert len(read_manifest(tmp_path, shape="image_text", phase="train")) == 151
    assert f"skipped 1 of 152 samples; the first: {tmp_path}/train/cat/note.txt: no image by its suffix" in caplog.text


# rows by shape
WRONG = [
    ({"audio": "0.wav", "text": 5}, "'text' is 5, not a text"),
    ({"audio": ["0.wav"], "text": "x"}, "'audio' is ['0.wav'], not a text"),
    ({"path": "0.wav", "text": "x"}, "no 'audio' (its keys: path, text)"),
    ({"audio": "0.wav", "sentence": "x"}, "empty or missing 'text' (its keys: audio, sentence)"),
    ({"audio": {"array": [0.1], "sampling_rate": 8000}, "text": "x"}, "'audio' is {'array'"),
    ({"audio": "../../../0.wav", "text": "x"}, "../../../0.wav leaves "),
    ({"audio": "a/../../../../0.wav", "text": "x"}, "a/../../../../0.wav leaves "),
    ({"audio": "..\\..\\..\\0.wav", "text": "x"}, "..\\..\\..\\0.wav leaves "),
    ({"audio": "0.wav", "text": "x", "segment": [1]}, "'segment' is [1]: begin and end"),
    ({"audio": "0.wav", "text": "x", "segment": [0, float("inf")]}, "'segment' is [0, inf]"),
]


@pytest.mark.parametrize(("row", "message"), WRONG)
def test_a_wrong_value_is_named(tmp_path, clips, row, message, caplog):
    clips[2] = row
    path = jsonl(tmp_path / "m.jsonl", clips)
    assert len(read_manifest(path, shape="speech")) == 199
    assert f"skipped 1 of 200 samples; the first: {path}:3: {message}" in caplog.text


def test_the_roots_parent_may_be_named(tmp_path):
    audio(tmp_path, 0)
    path = jsonl(tmp_path / "lists/m.jsonl", [{"audio": "../0.wav", "text": "x"}])
    assert read_manifest(path, shape="speech")[0]["audio"].endswith("0.wav")


def test_ids_that_occur_twice_are_counted(tmp_path, caplog):
    path = jsonl(tmp_path / "m.jsonl", [{"id": name, "text": "x"} for name in ("a", "b", "a", "b")])
    assert [row["id"] for row in read_manifest(path, shape="text")] == ["a", "b", f"a ({path}:3)", f"b ({path}:4)"]
    assert (
        f"{path}: 2 of 4 rows have the id of another, their places are appended; the first: {path}:3: a" in caplog.text
    )


# whole files
@pytest.mark.parametrize("make", [format_data.speech_parquet, format_data.speech_arrow, format_data.classes_npz])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.97])
def test_a_file_that_is_cut_off_is_named(tmp_path, make, share):
    path = make(tmp_path)
    path.write_bytes(path.read_bytes()[: int(len(path.read_bytes()) * share)])
    shape = "image_text" if path.suffix == ".npz" else "speech"
    assert refusal(path, shape).startswith(f"{path}: cannot be read as ")


def test_a_row_group_that_is_damaged_is_named(tmp_path):
    texts = ["".join(np.random.default_rng(n).choice(list("abcdefgh"), 200)) for n in range(2000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "t.parquet", row_group_size=1000, compression="zstd")
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    content[len(content) * 3 // 4 : len(content) * 3 // 4 + 2000] = bytes(2000)
    (tmp_path / "t.parquet").write_bytes(content)
    assert f"{tmp_path}/t.parquet: row group 2 cannot be read, damaged or cut off" in refusal(
        tmp_path / "t.parquet", "text"
    )


@pytest.mark.parametrize("make", [format_data.text_gz, format_data.speech_csv_zst, format_data.speech_gz])
def test_a_compressed_file_that_is_damaged_is_named(tmp_path, make):
    path = make(tmp_path)
    shape = "text" if ".txt" in path.name else "speech"
    whole = path.read_bytes()
    for content in (whole[:-9], b"not compressed at all"):
        path.write_bytes(content)
        assert refusal(path, shape).startswith(f"{path}: cannot be decompressed, damaged or cut off")


def test_texts_in_another_encoding_are_named_wherever_they_are(tmp_path):
    folder = format_data.speech_librispeech(tmp_path / "libri")
    file = folder / "dev-clean/9/9/9-9.trans.txt"
    file.write_bytes(b"9-9-0000 fine\n9-9-0001 caf\xe9\n")
    assert f"{file}:2: not UTF-8" in refusal(folder, "speech")
    folder = format_data.speech_ljspeech(tmp_path / "lj")
    (folder / "metadata.csv").write_bytes(b"a|b|c\n".decode().encode("utf-16"))
    assert "metadata.csv:1: not UTF-8" in refusal(folder, "speech", reading=Reading(format="ljspeech"))


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_nothing_in_a_pickle_is_executed(tmp_path, capsys):
    folder = format_data.classes_cifar10(tmp_path)
    (folder / "data_batch_2").write_bytes(pickle.dumps({b"labels": [Evil()], b"data": 1}, protocol=2))
    message = refusal(folder, "image_text")
    assert message.startswith(f"{folder}/data_batch_2: cannot be read as a batch of CIFAR (it asks for ")
    assert "executed" not in capsys.readouterr().out
    (folder / "data_batch_2").write_bytes(pickle.dumps({b"labels": [0, 1], b"data": np.zeros((1, 3072), np.uint8)}))
    assert "data_batch_2: not a batch of CIFAR: as many labels as images" in refusal(folder, "image_text")


NPZ = [
    ({"images": np.zeros((2, 4, 4, 3), np.float32), "labels": np.zeros(2, int)}, "images must be uint8 (N, H, W, 3)"),
    ({"images": np.zeros((2, 4, 4, 4), np.uint8), "labels": np.zeros(2, int)}, "not uint8 (2, 4, 4, 4)"),
    ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(3, int)}, "for each of the 2 images, not int64 (3,)"),
    ({"pixels": np.zeros(2)}, "holds pixels; the arrays images and labels are needed"),
    ({"images": np.zeros((1, 4, 4), np.uint8), "labels": np.full(1, 7)}, "row 1: label 7: there are 2 classes"),
    ({"images": np.zeros(1, object), "labels": np.zeros(1, int)}, "cannot be read as .npz of arrays"),
]


@pytest.mark.parametrize(("arrays", "message"), NPZ)
def test_arrays_that_are_no_images_of_classes(tmp_path, arrays, message):
    lines(tmp_path / "classes.json", '["cat", "dog"]')
    np.savez(tmp_path / "x.npz", **arrays)
    assert message in refusal(tmp_path / "x.npz", "image_text")
    (tmp_path / "classes.json").unlink()
    if "classes" in message:
        assert "no classes.json next to it" in refusal(tmp_path / "x.npz", "image_text")


COCO = [
    ({"images": []}, "not COCO's captions: an object with the lists 'images' and 'annotations' is needed"),
    ({"images": [{"id": 1}], "annotations": []}, "entry 1: an image without 'file_name'"),
    ({"images": [{"id": 1, "file_name": "0.png"}], "annotations": []}, "entry 1: empty or missing 'captions'"),
    (
        {"images": [{"id": 1, "file_name": "0.png"}], "annotations": [{"image_id": 2, "caption": "x"}]},
        "entry 1: annotation 1: no caption of an image (image_id 2)",
    ),
    (
        {"images": [{"id": [1], "file_name": "0.png"}], "annotations": [{"image_id": [2], "caption": "x"}]},
        "entry 1: annotation 1: no caption of an image (image_id [2])",
    ),
]


@pytest.mark.parametrize(("content", "message"), COCO)
def test_captions_of_no_image(tmp_path, content, message):
    picture(tmp_path, 0)
    path = lines(tmp_path / "captions.json", json.dumps(content))
    places = []
    if "images" in content and "annotations" in content:
        entries = read_entries(path, shape="image_text")
        places = [f"entry {number}: {entry}" for number, entry in entries if isinstance(entry, BadRow)]
    assert message in (places[0] if places else refusal(path, "image_text"))


TALKS = [
    (
        [{"from": "human", "value": "<image> x"}, {"from": "gpt", "value": "y"}],
        None,
        "<image> marks in the conversation: 1, image",
    ),
    ([{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}], "0.png", "image files of the row: 1"),
    ([{"from": "alien", "value": "x"}], None, "unknown 'from' 'alien'; known: human"),
    ([{"from": "human"}, {"from": "gpt", "value": "y"}], None, "no 'value' in a turn from 'human'"),
    ("hello", None, "'conversations' must be a list of turns"),
    ([{"from": "gpt", "value": "y"}], None, "at least a user's and an assistant's"),
]


@pytest.mark.parametrize(("turns", "image", "message"), TALKS)
def test_conversations_that_do_not_fit_their_media(tmp_path, turns, image, message):
    picture(tmp_path, 0)
    path = lines(tmp_path / "x.json", json.dumps([{"conversations": turns, "image": image}]))
    found = refusal(path, "sft")
    assert f"{path}, entry 1: " in found and message in found


def test_media_next_to_messages_go_where_their_marks_are(tmp_path):
    """As LLaMA-Factory and TRL write them: without it the model would learn the answer without the picture."""
    first, second = (str(picture(tmp_path, n)) for n in range(2))

    def say(*contents):
        roles = ("user", "assistant") * 2
        return [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]

    rows = [
        {"messages": say("<image>\nis it <image>?", "no"), "images": ["0.png", "1.png"]},
        {"messages": say([{"type": "image"}, {"type": "text", "text": "is it"}, {"type": "image"}], "no"),
         "images": ["0.png", "1.png"]},
        {"messages": say([{"type": "text", "text": "a <image>"}], "b", "c", "d"), "image": "0.png"},
        {"messages": say([{"type": "image", "image": "0.png"}], "b"), "image": "1.png"},
        {"messages": say("what is the tag <image>?", "of a picture")},
    ]  # fmt: skip
    path = jsonl(tmp_path / "m.jsonl", rows)
    found = [media_of(row["messages"])[0] for row in read_manifest(path, shape="sft")]
    assert found == [[first, second], [first, second], [first], [first], []]
    path = jsonl(tmp_path / "m.jsonl", [{"messages": say("<image> and <image>?", "no"), "images": ["0.png"]}])
    assert "<image> marks in the conversation: 2, image files of the row: 1" in refusal(path, "sft")
    path = jsonl(tmp_path / "m.jsonl", [{"messages": say("<video>?", "no"), "video": "a.mp4"}])
    assert "m.jsonl:1: it has a 'video'; of conversations images and recordings are read" in refusal(path, "sft")


def test_columns_of_parquet_that_are_no_text_are_text_or_named(tmp_path):
    """Dates and decimals as JSON would have them, so that rows can be packed and indexed; bytes that are no media go."""
    day = datetime.datetime(2020, 1, 2)
    columns = {"text": ["x"], "when": [day], "price": [decimal.Decimal("1.5")], "meta": [{"on": day, "of": [1, None]}],
               "hashes": pa.array([[b"a"]], pa.list_(pa.binary()))}  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    ((_, row),) = read_entries(tmp_path / "x.parquet", shape="text")
    assert json.loads(json.dumps(row)) == {
        "text": "x", "when": "2020-01-02 00:00:00", "price": "1.5", "meta": {"on": "2020-01-02 00:00:00", "of": [1, None]},
        "hashes": [],
    }  # fmt: skip
    pq.write_table(pa.table({"text": pa.array([b"x"], pa.binary())}), tmp_path / "x.parquet")
    assert "x.parquet, row 1: 'text' is a column of bytes, not of texts" in refusal(tmp_path / "x.parquet", "text")
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(twice, tmp_path / "x.parquet")
    assert "x.parquet: two columns are named 'text'; rename one" in refusal(tmp_path / "x.parquet", "text")


def test_splits_may_be_numbers(tmp_path):
    """Folds of a cross-validation: data.train_split=1 names them in any format."""
    rows = [{"text": f"t {n}", "split": n % 2} for n in range(4)]
    for path in (jsonl(tmp_path / "m.jsonl", rows), table(tmp_path / "m.csv", rows)):
        assert [row["text"] for row in read_manifest(path, shape="text", split="1")] == ["t 1", "t 3"]
    given = {
        "kind": "text",
        "train": "a",
        "val": None,
        "test": None,
        "train_split": 1,
        "val_split": 0,
        "test_split": None,
    }
    found = resolve_sources(given, stage="thinker", shape="text", world={"test": {}})
    assert found["splits"] == {"train": "1", "val": "0", "test": None}


# names of columns, formats and splits
def test_columns_are_renamed_in_every_format(tmp_path):
    audio(tmp_path, 0)
    rows = [{"path": "0.wav", "sentence": "hello", "text": "other", "id": "a"}]
    reading = Reading(columns={"text": "sentence", "audio": "path"})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    sources = [
        jsonl(tmp_path / "m.jsonl", rows), table(tmp_path / "m.csv", rows), table(tmp_path / "m.tsv", rows, delimiter="\t"),
        lines(tmp_path / "m.json", json.dumps(rows)), tmp_path / "m.parquet",
    ]  # fmt: skip
    expected = {"audio": str(tmp_path / "0.wav"), "text": "hello", "id": "a"}
    for source in sources:
        assert read_manifest(source, shape="speech", reading=reading) == [expected], source


def test_a_column_that_is_not_there_is_refused(tmp_path):
    rows = [{"txt": "hello", "n": 1}]
    for path in (jsonl(tmp_path / "m.jsonl", rows), lines(tmp_path / "m.json", json.dumps(rows))):
        # the rows are bad without it, and say so first where there are many
        found = refusal(path, "text", reading=Reading(columns={"text": "sentense"}))
        assert "'text'" in found or "sentense" in found
    rows = [{"text": "hello", "n": "1"}]
    reading = Reading(columns={"speaker": "client"})
    for path in (jsonl(tmp_path / "m.jsonl", rows), table(tmp_path / "m.csv", rows)):
        message = refusal(path, "text", reading=reading)
        assert message == f"{path}: no row has the column 'client' (data.columns.speaker); there are n, text"
    assert "the header row must name the columns text" in refusal(
        tmp_path / "m.csv", "text", reading=Reading(columns={"text": "body"})
    )


def test_formats_that_do_not_fit_are_refused(tmp_path):
    folder = format_data.speech_kaldi(tmp_path)
    assert "kaldi holds speech, and image_text is needed" in refusal(folder, "image_text")
    assert "data.format='kalid'; available: jsonl, json, csv" in refusal(
        folder, "speech", reading=Reading(format="kalid")
    )
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    lines(tmp_path / "odd/a.log", "x")
    assert "odd: a folder of no known format (a.log); data.format= names one of datasets" in refusal(
        tmp_path / "odd", "speech"
    )
    assert "a folder of no known format" in refusal(tmp_path / "empty", "text")


def test_a_forced_format_is_read_whatever_the_suffix(tmp_path):
    path = lines(tmp_path / "corpus.dat", '{"text": "a"}', '{"text": "b"}')
    assert [row["text"] for row in read_manifest(path, shape="text", reading=Reading(format="jsonl"))] == ["a", "b"]


def test_splits_of_a_folder_are_told_apart(tmp_path, caplog):
    for name, count in (("train", 3), ("dev", 2), ("test", 1)):
        jsonl(tmp_path / f"{name}.jsonl", [{"text": f"{name} {n}"} for n in range(count)])
    for phase, count in (("train", 3), ("val", 2), ("test", 1)):
        assert len(read_manifest(tmp_path, shape="text", phase=phase)) == count
    assert "3 of 6 rows are left out: their split is not for train" in caplog.text
    assert len(read_manifest(tmp_path, shape="text", split="dev", phase="train")) == 2
    assert len(read_manifest(tmp_path, shape="text")) == 6
    assert refusal(tmp_path, "text", split="validation").endswith(
        "no rows with split 'validation'; there are 'train' (3 rows), 'dev' (2 rows), 'test' (1 rows): name one of them, "
        "data.train_split=, val_split=, test_split=, or other data"
    )
    (tmp_path / "dev.jsonl").unlink()
    assert "no rows with split for val; there are 'train' (3 rows), 'test' (1 rows)" in refusal(
        tmp_path, "text", phase="val"
    )
    lines(tmp_path / "train.csv", "text", "x")
    assert "both train.csv and train.jsonl: name one of them" in refusal(tmp_path, "text")


def test_a_row_of_a_split_is_named_by_its_file(tmp_path):
    jsonl(tmp_path / "train.jsonl", [{"text": "a"}])
    lines(tmp_path / "dev.json", '[{"text": "b"}, {"text": 3}]')
    assert f"the first: {tmp_path}/dev.json, entry 2: 'text' is 3" in refusal(tmp_path, "text")
    assert [row["id"] for row in read_manifest(tmp_path, shape="text", split="train")] == [f"{tmp_path}/train.jsonl:1"]


def test_validation_on_the_rows_of_training_is_said(tmp_path, clips, caplog):
    path = jsonl(tmp_path / "m.jsonl", [row | {"split": ("train", "dev")[n % 2]} for n, row in enumerate(clips)])
    speech(path).samples("val")
    assert f"{path}: validation reads the rows of training; give data.val or data.val_split" in caplog.text
    for again in (tmp_path / "copy.jsonl", tmp_path / "link.jsonl", tmp_path / "in" / ".." / "m.jsonl"):
        caplog.clear()
        (tmp_path / "in").mkdir(exist_ok=True)
        if again.name == "copy.jsonl":
            again.write_bytes(path.read_bytes())
        elif again.name == "link.jsonl":
            again.symlink_to(path)
        speech(path, val=str(again)).samples("val")
        assert f"{again}: validation reads the rows of training" in caplog.text
    caplog.clear()
    speech(path, splits={"train": "train", "val": "dev"}).samples("val")
    speech(path, held_out=[clips[0].get("speaker", "0")]).samples("val")
    assert "validation reads" not in caplog.text


# the extra
def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    parquet, saved, packed = (
        make(tmp_path / name)
        for name, make in (
            ("a", format_data.text_parquet), ("b", format_data.text_datasets), ("c", format_data.speech_csv_zst),
        )
        if (tmp_path / name).mkdir() is None
    )  # fmt: skip
    for path, shape, package in (
        (saved, "text", "datasets"),
        (parquet, "text", "pyarrow"),
        (packed, "speech", "pyarrow"),
    ):
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, package, None)
        assert refusal(path, shape) == f"{path}: reading it needs {package}: pip install 'muomni[data]'"


def test_the_core_loads_no_extra():
    imports = re.compile(r"^(?:import|from) (?:pyarrow|datasets|huggingface_hub|pandas)\b", flags=re.MULTILINE)
    files = [*(ROOT / "datamodules").rglob("*.py")]
    assert files and [str(file) for file in files if imports.search(file.read_text())] == []


def test_a_name_of_the_hub_without_a_network_is_one_line(monkeypatch):
    monkeypatch.setattr("datamodules.formats.hugging_face._reachable", lambda: False)
    constants = pytest.importorskip("huggingface_hub").constants
    before = constants.HF_HUB_OFFLINE
    message = refusal("nobody/nothing-of-this-name", "text", reading=Reading(format="datasets"))
    assert before == constants.HF_HUB_OFFLINE, "others may find the network later"
    assert message.startswith("nobody/nothing-of-this-name: cannot be read as a data set of Hugging Face (")
