"""Conversations made from labels: who is asked what, in which words, and who is held out."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.formats import Reading
from datamodules.instruct.__main__ import main
from datamodules.instruct.build import Source, build_instructions
from datamodules.instruct.made_once import make_instructions
from datamodules.instruct.splits import split_rows
from datamodules.instruct.wordings import HELD_OUT, WORDINGS, held_out_wordings, seen_wordings
from datamodules.manifests import read_manifest
from muomni.frontends.audio_io import write_audio
from muomni.frontends.chat import media_of, text_of


@pytest.fixture
def sources(tmp_path):
    speech, images = tmp_path / "speech", tmp_path / "images"
    speech.mkdir()
    images.mkdir()
    write_audio(speech / "a.wav", 0.1 * torch.ones(1600), 16000)
    Image.new("RGB", (4, 4)).save(images / "a.png")
    clips = [
        {"id": f"{who}{number}", "audio": "a.wav", "text": text, "speaker": who, "split": split}
        for number, text in enumerate(("One", "two ", "call me"))
        for who, split in (("ann", "train"), ("bob", "train"), ("eve", "dev"))
    ]
    clips.append({"id": "new", "audio": "a.wav", "text": "six", "speaker": "ann", "split": "dev"})
    photos = [
        {
            "id": f"{name}-{split}",
            "image": "a.png",
            "captions": [f"a {name}", f"one {name}"],
            "label": name,
            "split": split,
        }
        for name in ("cat", "dog")
        for split in ("train", "val", "test")
    ]
    (speech / "m.jsonl").write_text("\n".join(map(json.dumps, clips)))
    (images / "m.jsonl").write_text("\n".join(map(json.dumps, photos)))
    return [Source(speech / "m.jsonl", "speech"), Source(images / "m.jsonl", "image_text")]


def written(folder, name):
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def question(row):
    return row["messages"][0]["content"][1]["text"]


def test_what_is_asked_of_whom(sources, tmp_path):
    counts = build_instructions(sources, tmp_path / "out", seed=3)
    test = Counter(
        (row["meta"]["question"], row["messages"][1]["content"]) for row in written(tmp_path / "out", "test")
    )
    assert test == Counter(
        [
            *[("asr", "one"), ("asr", "two"), ("asr", "call me"), ("asr", "six")],
            *[("word", "one"), ("word", "two"), ("speaker", "ann")],  # not "six" or "eve", which training does not know
            *[("caption", "a cat"), ("caption", "one cat"), ("caption", "a dog"), ("caption", "one dog")],
            *[("object", "cat"), ("object", "dog")],
        ]
    )
    assert counts["test"] == counts["test_wording"] == Counter(asr=4, word=2, speaker=1, caption=4, image_qa=2)
    assert counts["train"]["speaker"] + counts["val"]["speaker"] == 6


def test_held_out_wordings_are_only_in_their_test(sources, tmp_path):
    build_instructions(sources, tmp_path / "out", rounds=30)
    held = {wording for task in WORDINGS for wording in held_out_wordings(task)}
    for name in ("train", "val", "test"):
        assert not held & {question(row) for row in written(tmp_path / "out", name)}
    assert {question(row) for row in written(tmp_path / "out", "test_wording")} <= held
    drawn = {question(row) for row in written(tmp_path / "out", "train") if row["task"] == "caption"}
    assert drawn == set(seen_wordings("caption"))


@pytest.mark.parametrize("task", WORDINGS)
def test_ten_wordings_are_trained_and_none_means_two_tasks(task):
    assert len(seen_wordings(task)) >= 10 and len(held_out_wordings(task)) == HELD_OUT
    assert len(set(WORDINGS[task])) == len(WORDINGS[task])
    others = {wording for other in WORDINGS if other != task for wording in WORDINGS[other]}
    assert not others & set(WORDINGS[task])


def test_the_same_seed_writes_the_same_and_media_are_found(sources, tmp_path):
    for name in ("one", "two"):
        build_instructions(sources, tmp_path / name, rounds=2)
    assert written(tmp_path / "one", "train") == written(tmp_path / "two", "train")
    rows = read_manifest(tmp_path / "one" / "train.jsonl", shape="sft")
    assert all(Path(path).is_file() for row in rows for media in media_of(row["messages"]) for path in media)
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(text_of(row["messages"][-1]) for row in rows)


def test_tests_are_limited_evenly(sources, tmp_path):
    counts = build_instructions(sources, tmp_path / "out", limit=2)
    assert counts["test"] == Counter(asr=2, word=2, speaker=1, caption=2, image_qa=2)
    captions = [row["messages"][1]["content"] for row in written(tmp_path / "out", "test") if row["task"] == "caption"]
    assert captions == ["a cat", "a dog"]
    assert counts["train"] == build_instructions(sources, tmp_path / "all")["train"]


def test_rows_without_splits_are_divided_by_their_media(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    rows = []
    for number in range(200):
        (tmp_path / f"{number}.png").symlink_to(tmp_path / "a.png")
        rows += [{"image": f"{number}.png", "caption": caption} for caption in ("one thing", "a thing")]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    build_instructions([Source(tmp_path / "m.jsonl", "image_text")], tmp_path / "out")
    media = [
        {row["messages"][0]["content"][0]["image"] for row in written(tmp_path / "out", n)}
        for n in ("train", "val", "test")
    ]
    assert sum(map(len, media)) == len(set().union(*media)) == 200
    assert len(media[2]) > 5 and len(media[1]) > 1


def test_pictures_inside_other_files_are_written_out(tmp_path):
    pixels = np.arange(6 * 48, dtype=np.uint8).reshape(6, 4, 4, 3)
    np.savez(tmp_path / "train.npz", images=pixels[:4], labels=np.array([0, 1, 0, 1]))
    np.savez(tmp_path / "dev.npz", images=pixels[4:], labels=np.array([0, 1]))
    (tmp_path / "classes.json").write_text('["cat", "dog"]')
    build_instructions([Source(tmp_path, "image_text")], tmp_path / "out")
    rows = read_manifest(tmp_path / "out" / "test.jsonl", shape="sft")
    found = {
        row["messages"][1]["content"][0]["text"]: media_of(row["messages"])[0][0]
        for row in rows
        if row["meta"]["question"] == "object"
    }
    assert set(found) == {"cat", "dog"}
    only = [row for row in rows if row["meta"]["question"] == "caption"]  # of one caption: judged by exact match
    assert {row["task"] for row in only} == {"image_qa"} and text_of(only[0]["messages"][1]) == "a photo of a cat"
    assert np.array_equal(np.asarray(Image.open(found["dog"])), pixels[5])


def test_pictures_of_a_source_that_changed_are_not_those_of_before(tmp_path):
    for value in (0, 9):
        np.savez(tmp_path / "m.npz", images=np.full((40, 4, 4, 3), value, np.uint8), labels=np.arange(40) % 2)
        (tmp_path / "classes.json").write_text('["cat", "dog"]')
        build_instructions([Source(tmp_path / "m.npz", "image_text")], tmp_path / "out")
        rows = read_manifest(tmp_path / "out" / "train.jsonl", shape="sft")
        (picture,) = {media_of(row["messages"])[0][0] for row in rows}
        assert np.asarray(Image.open(picture)).max() == value and picture.endswith(".ppm")


def test_cuts_of_a_recording_are_of_one_split(tmp_path):
    names = [f"r{n}.wav" for n in range(30)]
    for name in names:
        write_audio(tmp_path / name, 0.1 * torch.ones(1600), 16000)
    rows = [{"audio": name, "text": "one", "segment": [k / 50, k / 50 + 0.02]} for name in names for k in range(3)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    splits = split_rows(read_manifest(tmp_path / "m.jsonl", shape="speech"), media="audio", seed=0, what="m")
    held = [{row["audio"].container for row in splits[name]} for name in ("train", "val", "test")]
    assert sum(map(len, held)) == len(set().union(*held)) == 30 and held[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give out=FOLDER"),
        (["out=x", "speech=missing.jsonl"], "missing.jsonl: no such manifest"),
        (["out=x", "sound=a.jsonl"], "unknown option 'sound'"),
        (["out=x", "speech=m.jsonl", "rounds=0"], "rounds=0: each question occurs at least once"),
        (["out=x", "speech=m.jsonl,m.jsonl"], "a source is named twice"),
        (["out=x", "speech=m.jsonl"], "unknown split 'best'"),
    ],
)
def test_mistakes_are_one_line(words, message, tmp_path, monkeypatch):
    write_audio(tmp_path / "a.wav", 0.1 * torch.ones(1600), 16000)
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio": "a.wav", "text": "one", "split": "best"}))
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, OSError), match=re.escape(message)) as raised:
        main(words)
    assert "\n" not in str(raised.value) and not (tmp_path / "x").exists()


def test_conversations_of_a_configuration_are_made_once(sources, tmp_path, caplog):
    """And again for other options or sources; media elsewhere are found from anywhere."""
    folder = tmp_path / "far" / "away" / "talk"
    options = {"out": str(folder), "speech": str(sources[0].path), "images": [str(sources[1].path)]}
    caplog.set_level("INFO")
    make_instructions(options)
    rows = read_manifest(folder / "test.jsonl", shape="sft")
    assert len(rows) == 13 and f"{folder}/test.jsonl: 13 questions" in caplog.text
    before = (folder / "train.jsonl").stat().st_ino
    make_instructions(options)
    assert (folder / "train.jsonl").stat().st_ino == before
    make_instructions(options | {"rounds": 2})
    assert len(read_manifest(folder / "train.jsonl", shape="sft")) > 2 * 11
    with (sources[0].path).open("a") as file:
        file.write("\n" + json.dumps({"id": "more", "audio": "a.wav", "text": "nine", "split": "dev"}))
    make_instructions(options)
    assert len(read_manifest(folder / "test.jsonl", shape="sft")) == 14


def test_what_a_configuration_makes_replaces_nothing_of_others(sources, tmp_path):
    build_instructions(sources, tmp_path / "mine")
    speech = str(sources[0].path)
    for options, message in (
        ({"out": str(tmp_path / "mine"), "speech": [speech]}, "mine: holds other conversations"),
        ({"out": "x", "sound": [speech]}, "data.instruct: unknown sound"),
        ({"out": "x"}, "out and speech or images are needed"),
        ({"out": "x", "images": ["none.jsonl"]}, "data.instruct.images: none.jsonl: no such manifest"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)):
            make_instructions(options)


def test_a_row_with_a_label_alone_gives_the_question_that_it_answers(sources, tmp_path, monkeypatch):
    """And one with neither a label nor what is asked for otherwise is refused."""
    images, speech = tmp_path / "images" / "labels.jsonl", tmp_path / "speech" / "speakers.jsonl"
    pictures = [
        {"image": "a.png", "label": name, "split": split} for name in ("cat", "dog") for split in ("train", "test")
    ]
    pictures += [{"image": "a.png", "captions": [], "caption": "", "category": 7, "split": "train"}]
    pictures += [{"image": "a.png", "caption": "a cow", "label": "cow", "split": "train"}]
    images.write_text("\n".join(map(json.dumps, pictures)))
    clips = [{"wav": "a.wav", "speaker": who, "split": split} for who in ("ann", "bob") for split in ("train", "test")]
    clips += [{"wav": "a.wav", "speaker": "ann", "text": "one", "split": "train"}]
    speech.write_text("\n".join(map(json.dumps, clips)))
    out = tmp_path / "out"
    counts = build_instructions([Source(speech, "speech"), Source(images, "image_text")], out)
    assert counts["test"] == Counter(speaker=2, image_qa=2)
    answers = Counter(
        (row["meta"]["question"], row["messages"][1]["content"])
        for name in ("train", "val")
        for row in written(out, name)
    )
    objects, speakers = (("object", each) for each in ("cat", "dog", "7", "cow")), ("ann", "ann", "bob")
    assert answers == Counter(
        [*objects, *(("speaker", each) for each in speakers), ("asr", "one"), ("caption", "a cow")]
    )
    for path, shape, row, message in (
        (images, "image_text", {"image": "a.png"}, "empty or missing 'captions' (its keys: image)"),
        (images, "image_text", {"image": "none.png", "label": "cat"}, "missing file none.png"),
        (speech, "speech", {"audio": "a.wav"}, "empty or missing 'text' (its keys: audio)"),
        (speech, "speech", {"audio": "a.wav", "speaker": "ann", "text": 3}, "'text' is 3, not a text"),
    ):
        path.write_text(json.dumps(row))
        with pytest.raises(ValueError, match=re.escape(f"{path}:1: {message}")):
            build_instructions([Source(path, shape)], out)
    images.write_text(json.dumps(pictures[0]))
    for large in (False, True):  # read into a list, and indexed
        if large:
            monkeypatch.setattr("datamodules.large_manifests.LARGE_FILE", 0)
        with pytest.raises(ValueError, match="empty or missing 'captions'"):
            read_manifest(images, shape="image_text", cache=str(tmp_path))
        labelled = read_manifest(images, shape="image_text", cache=str(tmp_path), reading=Reading(labelled=True))
        assert [row["captions"] for row in labelled] == [[]]


def test_the_program_says_what_it_wrote(sources, tmp_path, capsys):
    words = [f"speech={sources[0].path}", f"images={sources[1].path}", f"out={tmp_path / 'out'}"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert (
        f"{tmp_path / 'out' / 'test'}.jsonl: 13 questions (4 asr, 4 caption, 2 image_qa, 1 speaker, 2 word)" in said.out
    )
    assert said.err == ""
    main([words[1], words[2]])
    assert capsys.readouterr().err == ""
    rows = [{"audio": str(tmp_path / "speech" / "a.wav"), "text": "one", "split": "train"}]
    (tmp_path / "few.jsonl").write_text("\n".join(map(json.dumps, rows)))
    main([f"speech={tmp_path / 'few.jsonl'}", words[2]])
    assert "no questions in val, test, test_wording" in capsys.readouterr().err
