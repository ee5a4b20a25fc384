"""Images, written images, texts and conversations: what is wrong with them is found; clean ones have no findings."""

import pytest

from datamodules.check.finding import Severity
from datamodules.check.run import check
from muomni.frontends.tokenizer import Tokenizer
from tests.unit.datamodules.check.samples import found_in, image, lines, plan_for, sound

SENTENCE = "the quick brown fox jumps over the lazy dog while seven red circles stand left of a small blue square"
WORDS = SENTENCE.split()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("t") / "tokenizer.model"
    return Tokenizer.train([" ".join(WORDS[n:] + WORDS[:n]) for n in range(len(WORDS))], 350, path, exact=False)


def captioned(folder, count=3, first=0):
    return [
        {"image": image(folder / f"{n}.png", colour=(n, 0, 0)), "captions": [f"a fox {n}", "the dog"]}
        for n in range(first, first + count)
    ]


def one(found, name):
    assert name in found, sorted(found)
    return found[name][0]


def test_clean_images_have_no_findings(tmp_path, tokenizer):
    train, val = (
        lines(tmp_path / name, captioned(tmp_path, 3, first)) for name, first in (("t.jsonl", 0), ("v.jsonl", 3))
    )
    report = check(plan_for("image_text", train=train, val=val, tokenizer=tokenizer), processes=1)
    assert report.findings == []
    assert report.splits["train"]["modes"] == {"RGB": 3} and report.splits["train"]["width"]["max"] == 24
    assert {bars.unit for bars in report.histograms} == {"characters", "tokens", "pixels"}


def test_images_that_are_broken_small_long_or_of_another_mode(tmp_path, tokenizer):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    rows = [
        *captioned(tmp_path),
        {"image": "broken.jpg", "caption": "a dog"},
        {"image": image(tmp_path / "small.png", size=(9, 8)), "caption": "a dog"},
        {"image": image(tmp_path / "long.png", size=(200, 20), mode="L"), "caption": "a dog"},
        {"image": "0.png", "caption": "   "},
    ]
    plan = plan_for("image_text", train=lines(tmp_path / "t.jsonl", rows), tokenizer=tokenizer)
    report = check(plan, processes=1)
    found = {finding.check: finding for finding in report.findings}
    assert "t.jsonl:4" in found["unreadable-media"].where[0] and found["unreadable-media"].severity == Severity.ERROR
    assert found["small-images"].where == ["t.jsonl:5: 9 x 8"] and found["long-images"].where == ["t.jsonl:6: 200 x 20"]
    assert found["bad-rows"].where == ["t.jsonl:7: empty or missing 'captions'"]
    assert report.splits["train"]["modes"] == {"RGB": 4, "L": 1}


def test_the_same_image_under_another_name_is_a_leak(tmp_path):
    train = lines(tmp_path / "t.jsonl", captioned(tmp_path))
    (tmp_path / "copy.png").write_bytes((tmp_path / "1.png").read_bytes())
    val = lines(tmp_path / "v.jsonl", [{"image": "copy.png", "caption": "something else"}])
    assert one(found_in(plan_for("image_text", train=train, val=val)), "leak").where == ["v.jsonl:1 as t.jsonl:2"]


def test_captions_longer_than_the_tower(tmp_path, tokenizer):
    rows = captioned(tmp_path)
    rows[1]["captions"] = [" ".join(WORDS)]
    plan = plan_for("image_text", train=lines(tmp_path / "t.jsonl", rows), tokenizer=tokenizer, max_length=12)
    report = check(plan, processes=1)
    finding = next(each for each in report.findings if each.check == "too-many-tokens")
    assert finding.count == 1 and finding.total == 5 and "cut" in finding.what
    assert any(setting.option == "backbone.text_tower.max_length" for setting in report.settings)


def test_written_texts_that_are_too_long(tmp_path):
    rows = [
        {"image": image(tmp_path / f"{n}.png", colour=(n, 0, 0)), "text": text}
        for n, text in enumerate(("STOP", "KEEP CLEAR", "é"))
    ]
    plan = plan_for("ocr", train=lines(tmp_path / "t.jsonl", rows), val=lines(tmp_path / "v.jsonl", rows[1:2]))
    found = found_in(plan)
    by_split = {finding.split: finding for finding in found["text-too-long"]}
    assert by_split["train"].severity == Severity.WARNING and by_split["val"].severity == Severity.ERROR
    assert by_split["train"].where == ["t.jsonl:2: 10 characters"]
    assert "é" in one(found, "unknown-characters").what


def test_texts_questions_and_windows(tmp_path, tokenizer):
    document = " ".join(WORDS * 3)
    train = lines(tmp_path / "t.jsonl", [{"text": document}, {"text": "a fox"}, {"text": document}])
    val = lines(
        tmp_path / "v.jsonl",
        [{"prompt": document, "answer": "yes"}, {"prompt": "a", "answer": "b"}, {"text": document}],
    )
    found = found_in(plan_for("text", train=train, val=val, tokenizer=tokenizer, max_length=40))
    assert one(found, "windows").count == 2 and one(found, "windows").severity == Severity.NOTE
    assert one(found, "too-many-tokens").split == "val" and one(found, "too-many-tokens").count == 1
    assert one(found, "leak").where == ["v.jsonl:3 as t.jsonl:1"]
    assert one(found, "duplicates").where == ["t.jsonl:3 as t.jsonl:1"]


def test_short_lines_may_repeat(tmp_path, tokenizer):
    path = tmp_path / "t.txt"
    path.write_text("ROMEO:\nGood night.\nROMEO:\nGood night.\n")
    assert found_in(plan_for("text", train=path, tokenizer=tokenizer)) == {}


def test_more_text_deserves_more_pieces(tmp_path, tokenizer):
    path = lines(tmp_path / "t.jsonl", [{"text": " ".join(WORDS * 100)} for _ in range(210)])
    plan = plan_for("text", train=path, tokenizer=tokenizer, vocab_size=600)
    assert [setting.override for setting in check(plan, processes=1).settings] == ["vocab_size=4096"]


def conversation(folder, n, question="what is it?", **content):
    items = [
        {"type": "image", "image": image(folder / f"{n}.png", colour=(n, 0, 0))},
        {"type": "text", "text": question},
    ]
    return {"messages": [{"role": "user", "content": items}, {"role": "assistant", "content": "a fox"}], **content}


def test_conversations_count_the_tokens_of_their_media(tmp_path, tokenizer):
    rows = [conversation(tmp_path, n) for n in range(3)]
    clip = {"type": "audio", "audio": sound(tmp_path / "a.wav", seconds=8)}
    rows.append({"messages": [{"role": "user", "content": [clip]}, {"role": "assistant", "content": "the dog"}]})
    path = lines(tmp_path / "t.jsonl", rows)
    report = check(plan_for("sft", train=path, tokenizer=tokenizer), processes=1)
    assert report.findings == []
    shortest = report.splits["train"]["tokens"]["min"]
    assert shortest > 9  # of the image
    assert report.splits["train"]["tokens"]["max"] > 50  # 8 s are 50 tokens
    found = found_in(plan_for("sft", train=path, tokenizer=tokenizer, max_length=50))
    assert (
        one(found, "too-many-tokens").where[0].startswith("t.jsonl:4")
        and one(found, "too-many-tokens").severity == Severity.ERROR
    )


def test_conversations_and_plain_questions_of_other_splits(tmp_path, tokenizer):
    train = lines(tmp_path / "t.jsonl", [conversation(tmp_path, n) for n in range(3)])
    questions = lines(tmp_path / "q.jsonl", [{"prompt": "2 + 2?", "answer": "4"}])
    same = lines(tmp_path / "s.jsonl", [conversation(tmp_path, 1), conversation(tmp_path, 1, "which colour?")])
    found = found_in(plan_for("sft", train=train, test_plain=questions, test_same=same, tokenizer=tokenizer))
    assert {name: [each.split for each in findings] for name, findings in found.items()} == {"leak": ["test/same"]}
    assert one(found, "leak").count == 1


def test_a_folder_of_images_with_splits_of_its_own(tmp_path):
    """Places are those of the folder's files; its splits are not mixed."""
    for split, first in (("train", 0), ("val", 10)):
        for name in ("cat", "dog"):
            for n in range(2):
                image(tmp_path / "set" / split / name / f"{n}.png", colour=(first + n, len(name), ord(name[0])))
    (tmp_path / "set" / "val" / "cat" / "0.png").write_bytes(
        (tmp_path / "set" / "train" / "dog" / "1.png").read_bytes()
    )
    report = check(plan_for("image_text", train=tmp_path / "set", val=tmp_path / "set"), processes=1)
    assert [report.splits[name]["rows"] for name in ("train", "val")] == [4, 4]
    assert "splits-ignored" not in {finding.check for finding in report.findings}
    leak = next(finding for finding in report.findings if finding.check == "leak")
    assert leak.count == 1 and leak.where == ["set, row 1 of val as set, row 4 of train"]
