"""Manifests: what each shape holds, and every mistake by file and line."""

import json
import logging

import pytest

from datamodules.manifests import read_manifest, report_bad

GOOD = {
    "text": {"text": "the cat sat"},
    "image_text": {"image": "m/a.png", "captions": ["a red circle", "a circle"]},
    "speech": {"audio": "m/a.flac", "text": "hello"},
    "ocr": {"image": "m/a.png", "text": "hello"},
    "sft": {
        "messages": [
            {"role": "user", "content": [{"type": "image", "image": "m/a.png"}, {"type": "text", "text": "what?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "a cat"}]},
        ]
    },
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a.png").touch()
    (tmp_path / "m" / "a.flac").touch()
    return tmp_path


def write(folder, rows, name="x.jsonl"):
    path = folder / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


@pytest.mark.parametrize("shape", GOOD)
def test_good_rows_get_an_id(folder, shape):
    path = write(folder, [GOOD[shape], "", GOOD[shape] | {"id": "mine"}])
    (first, second) = read_manifest(path, shape=shape)
    assert (first["id"], second["id"]) == (f"{path}:1", "mine")


def test_media_paths_are_made_absolute(folder):
    absolute = str(folder / "m" / "a.flac")
    rows = read_manifest(write(folder, [GOOD["speech"], {"audio": absolute, "text": "x"}]), shape="speech")
    assert [row["audio"] for row in rows] == [absolute, absolute]
    (sft,) = read_manifest(write(folder, [GOOD["sft"]]), shape="sft")
    assert sft["messages"][0]["content"][0]["image"] == str(folder / "m" / "a.png")


def test_media_are_looked_up_in_four_places_in_order(tmp_path, monkeypatch):
    """micro-omni's rule: root/p, root/images/p, parent of root/p, p."""
    root, here = tmp_path / "up" / "root", tmp_path / "here"
    places = [root / "a.png", root / "images" / "a.png", tmp_path / "up" / "a.png", here / "a.png"]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    monkeypatch.chdir(here)
    path = write(tmp_path, [{"image": "a.png", "text": "x"}])
    for place in places:
        for given in (root, "../up/root", f"{root}/"):
            (row,) = read_manifest(path, shape="ocr", root=given)
            assert row["image"] == str(place)
        place.unlink()
    with pytest.raises(ValueError, match="missing file a.png"):
        read_manifest(path, shape="ocr", root=root)


def test_without_a_root_it_is_the_manifests_own_folder(folder, monkeypatch):
    write(folder / "m", [{"image": "a.png", "text": "x"}])
    monkeypatch.chdir(folder)
    (row,) = read_manifest("m/x.jsonl", shape="ocr")
    assert row["image"] == str(folder / "m" / "a.png")
    with pytest.raises(FileNotFoundError, match="data.root=none: no such folder"):
        read_manifest("m/x.jsonl", shape="ocr", root="none")


def test_short_forms(folder):
    (row,) = read_manifest(write(folder, [{"image": "m/a.png", "caption": "a dog"}]), shape="image_text")
    assert row["captions"] == ["a dog"]
    (row,) = read_manifest(write(folder, [{"wav": "m/a.flac", "text": "x"}]), shape="speech")
    assert row == {"audio": str(folder / "m" / "a.flac"), "text": "x", "id": f"{folder}/x.jsonl:1"}
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    (row,) = read_manifest(write(folder, [{"messages": turns}]), shape="sft")
    assert row["messages"][1]["content"] == [{"type": "text", "text": "ho"}]
    plain = write(folder, ["one line", "{not json, still text"], name="x.txt")
    assert [row["text"] for row in read_manifest(plain, shape="text")] == ["one line", "{not json, still text"]
    (row,) = read_manifest(write(folder, [{"prompt": "2 + 2 =", "answer": "4"}]), shape="text")
    assert row["answer"] == "4"


def test_a_split_is_selected(folder):
    path = write(folder, [{"text": "a", "split": "train"}, {"text": "b", "split": "dev"}, {"text": "c"}])
    assert [row["text"] for row in read_manifest(path, shape="text", split="dev")] == ["b"]
    assert len(read_manifest(path, shape="text")) == 3
    with pytest.raises(ValueError, match="no rows with split 'tset'"):
        read_manifest(path, shape="text", split="tset")


BAD = [
    ("text", '{"text": "half \\ud83d of it"}', r"half a character \('\\ud83d'\) in 'text', at character 6"),
    ("image_text", '{"image": "m/a.png", "captions": ["\\udc00"]}', "half a character .* in 'captions'"),
    ("text", '{"text": "x", "n": ' + "9" * 5000 + "}", "not JSON that can be read"),
    ("text", '{"text": ' + "[" * 100_000, "not JSON that can be read"),
    ("text", "{oops", "not JSON"),
    ("text", "[1]", "not a JSON object"),
    ("text", {"text": "  "}, "empty or missing 'text'"),
    ("text", {"prompt": "2 + 2 ="}, "empty or missing 'answer'"),
    ("image_text", {"image": "m/a.png", "captions": []}, "empty or missing 'captions'"),
    ("image_text", {"image": "m/none.png", "captions": ["x"]}, "missing file .*none.png"),
    ("image_text", {"captions": ["x"]}, "no 'image'"),
    ("speech", {"audio": "m/a.flac", "text": ""}, "empty or missing 'text'"),
    ("speech", {"text": "x"}, "no 'audio'"),
    (
        "speech",
        {"wav": "m/none.wav", "text": "x"},
        r"missing file m/none.wav: not in .*, its images/, .*; set data.root",
    ),
    ("speech", {"audio": "/none.wav", "text": "x"}, r"missing file /none.wav$"),
    ("speech", {"audio": "a text in the wrong place " * 20, "text": "m/a.flac"}, "missing file a text"),
    ("ocr", {"image": "m/a.png"}, "empty or missing 'text'"),
    ("ocr", {"text": "x"}, "no 'image'"),
    ("sft", {"messages": []}, "must hold turns"),
    ("sft", {"messages": ["x", "y"]}, "must hold turns"),
    ("sft", {"messages": GOOD["sft"]["messages"][:1] * 2}, "end with the assistant's turn"),
    (
        "sft",
        {"messages": [{"role": "robot", "content": "x"}, {"role": "assistant", "content": "y"}]},
        "unknown role 'robot'",
    ),
    (
        "sft",
        {"messages": [{"role": "user", "content": [{"type": "smell"}]}, {"role": "assistant", "content": "y"}]},
        "unknown content type 'smell'; known: text, image, audio, speech",
    ),
    (
        "sft",
        {"messages": [{"role": "user", "content": ["x"]}, {"role": "assistant", "content": "y"}]},
        "unknown content type None",
    ),
    (
        "sft",
        {"messages": [{"role": "user"}, {"role": "assistant", "content": "y"}]},
        "missing 'content' of the user's turn",
    ),
]


@pytest.mark.parametrize(("shape", "row", "reason"), BAD)
def test_a_bad_row_is_an_error_by_file_and_line(folder, shape, row, reason):
    path = write(folder, [GOOD[shape], row])
    with pytest.raises(ValueError, match=reason) as error:
        read_manifest(path, shape=shape)
    assert f"{path}:2: " in str(error.value)
    assert "1 of 2 samples" in str(error.value)


@pytest.mark.parametrize(("bad", "fine"), [(1, True), (2, True), (3, False)])
def test_up_to_one_percent_is_skipped_and_reported(folder, caplog, bad, fine):
    path = write(folder, ["{"] * bad + [GOOD["text"]] * (200 - bad))
    if not fine:
        with pytest.raises(ValueError, match="3 of 200 samples cannot be used"):
            read_manifest(path, shape="text")
        return
    with caplog.at_level(logging.WARNING):
        assert len(read_manifest(path, shape="text")) == 200 - bad
    assert f"skipped {bad} of 200 samples" in caplog.text
    assert f"{path}:1:" in caplog.text


def test_rows_of_another_split_are_counted(folder, caplog):
    path = write(folder, [GOOD["text"] | {"split": "train"}] * 3 + [GOOD["text"]] * 2)
    assert len(read_manifest(path, shape="text", split="train")) == 3
    assert f"{path}: 2 of 5 rows are left out: their split is not 'train'" in caplog.text


def test_one_percent_is_one_of_the_split(folder):
    dev = [GOOD["speech"] | {"split": "dev"}, {"audio": "none.flac", "text": "x", "split": "dev"}]
    path = write(folder, [GOOD["speech"] | {"split": "train"}] * 200 + dev)
    assert len(read_manifest(path, shape="speech", split="train")) == 200
    with pytest.raises(ValueError, match="1 of 2 samples cannot be used"):
        read_manifest(path, shape="speech", split="dev")


def test_missing_empty_and_wrong_files(folder):
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl: no such manifest"):
        read_manifest(folder / "none.jsonl", shape="text")
    with pytest.raises(ValueError, match="no rows"):
        read_manifest(write(folder, []), shape="text")
    with pytest.raises(
        ValueError, match=r"unknown manifest shape 'asr'; available: text, image_text, speech, ocr, sft"
    ):
        read_manifest(write(folder, []), shape="asr")
    binary = folder / "b.jsonl"
    binary.write_bytes(b'{"text": "a"}\n\xff\xfe\n')
    with pytest.raises(ValueError, match=r"b\.jsonl:2: not UTF-8"):
        read_manifest(binary, shape="text")


def test_nothing_bad_says_nothing(caplog):
    report_bad([], total=0, what="x")
    assert caplog.text == ""


def said(role, *texts):
    return {"role": role, "content": [{"type": "text", "text": text} for text in texts]}


@pytest.mark.parametrize(
    ("turns", "joined"),
    [
        ([said("user", "a"), said("user", "b"), said("assistant", "c")], [said("user", "a", "b"), said("assistant", "c")]),
        ([said("user", "a"), said("assistant", "b"), said("assistant", "c")], [said("user", "a"), said("assistant", "b", "c")]),
        ([said("system", "s"), said("system", "t"), said("user", "a"), said("assistant", "b")],
         [said("system", "s", "t"), said("user", "a"), said("assistant", "b")]),
        ([{"role": "system", "content": ""}, said("user", "a"), said("assistant", "b")],
         [said("user", "a"), said("assistant", "b")]),
    ],
)  # fmt: skip
def test_consecutive_turns_of_a_role_are_one(folder, turns, joined):
    assert read_manifest(write(folder, [{"messages": turns}]), shape="sft")[0]["messages"] == joined


@pytest.mark.parametrize(
    "turns",
    [
        [said("user", "a"), said("assistant", "b"), said("system", "s"), said("user", "a"), said("assistant", "b")],
        [said("assistant", "a"), said("user", "b"), said("assistant", "c")],
        [said("system", "a"), said("assistant", "b")],
        [said("system", "a"), said("system", "b")],
        [said("user", "a"), {"role": "assistant", "content": [{"type": "image", "image": "m/a.png"}]}],
        [{"role": "user", "content": [{"type": "speech", "text": "a"}]}, said("assistant", "b")],
        [said("user", "half \ud83d"), said("assistant", "b")],
        [said("user", "a"), said("assistant", "\udc00")],
        [said("user", ["a"]), said("assistant", "b")],
        [{"role": "system", "content": [3]}, said("user", "a"), said("assistant", "b")],
    ],
)
def test_a_conversation_that_cannot_be_learnt_costs_its_row_and_no_more(folder, caplog, turns):
    good = {"messages": [said("user", "a"), said("assistant", "b")]}
    path = write(folder, [*[good] * 120, {"messages": turns}, *[good] * 179])
    assert len(read_manifest(path, shape="sft")) == 299
    assert f"skipped 1 of 300 samples; the first: {path}:121: " in caplog.text


@pytest.mark.parametrize(
    ("shape", "row"),
    [
        ("image_text", {"image": "x" * 5000, "caption": "a"}),
        ("speech", {"audio": "/" + "x/" * 2500, "text": "a"}),
        ("sft", {"messages": [{"role": "x" * 5000, "content": "a"}, {"role": "assistant", "content": "b"}]}),
        ("sft", {"messages": [{"role": "user", "content": [{"type": ["x"] * 5000}]}, {"role": "assistant", "content": "b"}]}),
        ("speech", {"audio": "x" * 5000, "text": "a"}),
    ],
)  # fmt: skip
def test_a_long_value_in_a_bad_row_is_cut_short_in_its_error(tmp_path, shape, row):
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    with pytest.raises(ValueError, match="rows.jsonl") as found:
        read_manifest(tmp_path / "rows.jsonl", shape=shape)
    assert len(str(found.value)) < 1000
