"""Broken recordings and their rows: each is found under its name, with its place; clean ones have no findings."""

import json

import pytest
import soundfile
import torch

from datamodules.check.finding import Severity
from datamodules.check.run import check
from muomni.frontends.audio_io import write_audio
from tests.unit.datamodules.check.samples import clips, found_in, lines, plan_for, sound

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE


def one(found, name):
    assert name in found, sorted(found)
    return found[name][0]


def test_clean_data_has_no_findings(tmp_path):
    train = lines(tmp_path / "train.jsonl", clips(tmp_path, 4, speaker="a"))
    val = lines(tmp_path / "val.jsonl", clips(tmp_path, 2, first=4, speaker="b"))
    report = check(plan_for("speech", "audio", train=train, val=val), processes=1)
    assert report.findings == [] and report.settings == [] and not report.failed
    numbers = report.splits["train"]
    assert numbers["rows"] == 4 and numbers["speakers"] == 1 and numbers["sample rates"] == {"16000": 4}
    assert numbers["seconds"] == {"min": 1.0, "median": 1.0, "p95": 1.0, "max": 1.0}
    assert numbers["hours"] == pytest.approx(4 / 3600, abs=1e-3)


def test_rows_that_cannot_be_used_are_counted_by_cause(tmp_path):
    rows = [
        *clips(tmp_path),
        "{not json",
        {"audio": "9.wav", "text": "six"},
        {"audio": "8.wav", "text": "six"},
        {"text": ""},
    ]
    found = found_in(plan_for("speech", train=lines(tmp_path / "t.jsonl", rows)))["bad-rows"]
    assert {finding.count for finding in found} == {1, 2}
    assert all(finding.severity == ERROR and finding.total == 8 for finding in found)
    places = "\n".join(place for finding in found for place in finding.where)
    assert "t.jsonl:5: not JSON" in places and "t.jsonl:6: missing file '9.wav'" in places.replace(
        "missing file 9.wav", "missing file '9.wav'"
    )
    assert "t.jsonl:8: empty or missing 'text'" in places


def test_a_file_that_is_no_manifest(tmp_path):
    (tmp_path / "t.jsonl").write_bytes('{"text": "caf\xe9"}\n'.encode("latin-1"))
    finding = one(found_in(plan_for("speech", train=tmp_path / "t.jsonl")), "unreadable-file")
    assert finding.severity == ERROR and "t.jsonl:1: not UTF-8" in finding.what


def test_a_split_without_rows_names_those_that_there_are(tmp_path):
    path = lines(tmp_path / "t.jsonl", [*clips(tmp_path, 3, split="train"), *clips(tmp_path, 1, first=3, split="dev")])
    finding = one(found_in(plan_for("speech", train=(path, "training"))), "no-rows")
    assert finding.severity == ERROR and "train (3), dev (1)" in finding.what and "data.train_split" in finding.remedy


def test_splits_that_nobody_asked_for(tmp_path):
    path = lines(tmp_path / "t.jsonl", [*clips(tmp_path, 3, split="train"), *clips(tmp_path, 1, first=3, split="dev")])
    finding = one(found_in(plan_for("speech", train=path)), "splits-ignored")
    assert (finding.count, finding.total) == (1, 4)
    assert finding.remedy == "data.train_split=train data.val_split=dev"


def test_ids_and_clips_that_occur_twice(tmp_path):
    rows = clips(tmp_path, 4)
    path = lines(
        tmp_path / "t.jsonl", [*rows, rows[1], {**rows[2], "audio": sound(tmp_path / "copy.flac", seed=2), "id": "x"}]
    )
    found = found_in(plan_for("speech", train=path))
    assert one(found, "duplicate-ids").where == ["t.jsonl:5 as t.jsonl:2"]
    assert one(found, "duplicates").count == 1


def test_the_same_recording_in_another_file_and_format(tmp_path):
    """By its samples: a wav and a flac."""
    rows = clips(tmp_path, 3)
    train = lines(tmp_path / "t.jsonl", rows)
    samples, rate = soundfile.read(tmp_path / "1.wav", dtype="int16")
    soundfile.write(tmp_path / "copy.flac", samples, rate)
    val = lines(tmp_path / "v.jsonl", [{"audio": "copy.flac", "text": "seven"}])
    finding = one(found_in(plan_for("speech", train=train, val=val)), "leak")
    assert finding.severity == ERROR and finding.where == ["v.jsonl:1 as t.jsonl:2"]


@pytest.mark.parametrize("given", [True, False])
def test_validation_on_the_training_data(tmp_path, given):
    path = lines(tmp_path / "t.jsonl", clips(tmp_path))
    finding = one(found_in(plan_for("speech", train=path, val=path, val_given=given)), "held-out-is-train")
    assert finding.severity == (ERROR if given else WARNING) and (finding.count, finding.total) == (4, 4)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(path.read_bytes())
    finding = one(found_in(plan_for("speech", train=path, val=copy)), "held-out-is-train")
    assert finding.severity == ERROR and finding.where == [str(copy)]


def test_a_held_out_split_that_holds_the_training_rows(tmp_path):
    rows = [*clips(tmp_path, 3, split="train"), *clips(tmp_path, 1, first=3, split="dev")]
    path = lines(tmp_path / "t.jsonl", rows)
    finding = one(found_in(plan_for("speech", train=(path, "train"), test_a=path)), "leak")
    assert (finding.count, finding.total, finding.split) == (3, 4, "test/a") and "data.test_split" in finding.remedy


def test_speakers_of_both_splits(tmp_path):
    train = lines(tmp_path / "t.jsonl", [*clips(tmp_path, 2, speaker="a"), *clips(tmp_path, 2, first=2, speaker="b")])
    val = lines(
        tmp_path / "v.jsonl", [*clips(tmp_path, 2, first=4, speaker="b"), *clips(tmp_path, 1, first=6, speaker="c")]
    )
    finding = one(found_in(plan_for("speech", train=train, val=val)), "shared-speakers")
    assert finding.severity == WARNING and (finding.count, finding.total) == (2, 3) and "(b)" in finding.what
    closed = found_in(
        plan_for("speech", train=train, val=lines(tmp_path / "w.jsonl", clips(tmp_path, 2, first=4, speaker="b")))
    )
    assert one(closed, "shared-speakers").severity == NOTE


def test_recordings_that_cannot_be_read(tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    header = bytearray((tmp_path / sound(tmp_path / "zero.wav")).read_bytes()[:44])
    header[40:44] = bytes(4)
    (tmp_path / "zero.wav").write_bytes(bytes(header))
    rows = [*clips(tmp_path), {"audio": "text.wav", "text": "six"}, {"audio": "zero.wav", "text": "six"}]
    found = found_in(plan_for("speech", train=lines(tmp_path / "t.jsonl", rows)))
    assert "t.jsonl:5" in one(found, "unreadable-media").where[0]
    assert "t.jsonl:6" in one(found, "empty-media").where[0]
    assert one(found, "empty-media").severity == ERROR


def test_silent_clipped_and_quiet_recordings(tmp_path):
    write_audio(tmp_path / "silent.wav", torch.zeros(16000), 16000)
    write_audio(tmp_path / "clipped.wav", (2 * torch.sin(torch.arange(16000) / 9)).clamp(-0.9, 0.9), 16000)
    sound(tmp_path / "quiet.wav", gain=0.003)
    rows = [{"audio": f"{name}.wav", "text": "six"} for name in ("silent", "clipped", "quiet")]
    found = found_in(plan_for("speech", train=lines(tmp_path / "t.jsonl", [*clips(tmp_path), *rows])))
    for line, name in enumerate(("silent", "clipped", "quiet"), start=5):
        assert one(found, name).where == [f"t.jsonl:{line}"]


def test_headers_that_are_not_what_their_rows_say(tmp_path):
    rows = clips(tmp_path, 4, sample_rate=16000, seconds=1.0)
    rows[1]["sample_rate"], rows[2]["seconds"] = 8000, 2.0
    finding = one(found_in(plan_for("speech", train=lines(tmp_path / "t.jsonl", rows))), "header")
    assert finding.count == 2 and "16000 Hz in the header, 8000 in the row" in finding.where[0]
    rows[1]["sample_rate"], rows[2]["seconds"] = float("nan"), float("inf")
    assert "header" not in found_in(plan_for("speech", train=lines(tmp_path / "t.jsonl", rows)))


def test_a_rate_that_only_one_recording_has(tmp_path):
    rows = [*clips(tmp_path, 12), {"audio": sound(tmp_path / "odd.wav", rate=22050), "text": "six"}]
    finding = one(found_in(plan_for("speech", train=lines(tmp_path / "t.jsonl", rows))), "odd-rate")
    assert finding.where == ["t.jsonl:13"] and "22050 Hz" in finding.what


def test_texts_that_ctc_cannot_write(tmp_path):
    rows = [*clips(tmp_path, 8), {"audio": sound(tmp_path / "s.wav", seconds=0.2), "text": "eleven"}]
    path = lines(tmp_path / "t.jsonl", rows)
    finding = one(found_in(plan_for("speech", "audio", train=path)), "too-short-for-text")
    assert finding.severity == ERROR and finding.count == 1  # over a tenth
    assert finding.where == ["t.jsonl:9: 0.20 s, its text needs 0.24 s"]
    assert "too-short-for-text" not in found_in(plan_for("speech", "codec", train=path, symbol_frames=None))
    coarse = one(found_in(plan_for("speech", "audio", train=path, symbol_frames=8)), "too-short-for-text")
    assert coarse.remedy == "with backbone.audio.downsample=4 there are 1"
    assert [
        each.override for each in check(plan_for("speech", "audio", train=path, symbol_frames=8), processes=1).settings
    ] == []
    slow = lines(tmp_path / "u.jsonl", [*rows[:1], {"audio": sound(tmp_path / "m.wav", seconds=0.4), "text": "eleven"}])
    slower = check(plan_for("speech", "audio", train=slow, symbol_frames=8), processes=1)
    assert [each.override for each in slower.settings] == ["backbone.audio.downsample=4"]


def test_characters_that_cannot_be_written(tmp_path):
    rows = [*clips(tmp_path), {"audio": sound(tmp_path / "p.wav", seed=9), "text": "Привет"}]
    path = lines(tmp_path / "t.jsonl", rows)
    report = check(plan_for("speech", "audio", train=path), processes=1)
    finding = next(each for each in report.findings if each.check == "unknown-characters")
    assert (finding.count, finding.total, finding.severity) == (6, 26, ERROR) and "п" in finding.what
    assert "t.jsonl:5" in finding.where[0]
    assert [setting.override for setting in report.settings] == ["characters=data"]
    learnt = plan_for(
        "speech", "audio", train=path, characters="data", val=lines(tmp_path / "v.jsonl", [{**rows[0], "text": "ж"}])
    )
    assert [each.split for each in check(learnt, processes=1).findings if each.check == "unknown-characters"] == ["val"]


def test_a_table_of_more_characters(tmp_path):
    rows = [{"audio": sound(tmp_path / f"{n}.wav", seed=n, seconds=9), "text": text} for n, text in enumerate(
        ("".join(map(chr, range(0x4E00, 0x4E40))), "".join(map(chr, range(0x4E40, 0x4E80)))))]  # fmt: skip
    report = check(plan_for("speech", "audio", train=lines(tmp_path / "t.jsonl", rows)), processes=1)
    assert "backbone.audio.num_symbols=130" in [setting.override for setting in report.settings]


def test_texts_of_a_wrong_encoding(tmp_path):
    rows = clips(tmp_path)
    rows[2]["text"] = "cafÃ© noir"
    finding = one(found_in(plan_for("speech", train=lines(tmp_path / "t.jsonl", rows))), "garbled-text")
    assert finding.count == 1 and finding.where[0].startswith("t.jsonl:3 (c2)")


def test_a_misspelled_key(tmp_path):
    finding = one(
        found_in(plan_for("speech", train=lines(tmp_path / "t.jsonl", clips(tmp_path, speakr="a")))), "unknown-key"
    )
    assert "'speakr'" in finding.what and "'speaker'" in finding.remedy


def test_lengths_decide_what_to_set(tmp_path):
    rows = [
        {"audio": sound(tmp_path / f"{n}.wav", seed=n, seconds=s), "text": "six"}
        for n, s in enumerate([2] * 6 + [7, 18])
    ]
    report = check(plan_for("speech", "audio", train=lines(tmp_path / "t.jsonl", rows)), processes=1)
    assert [each.count for each in report.findings if each.check == "too-long"] == [1]
    assert [setting.override for setting in report.settings] == [
        "datamodule.max_seconds=18",
        "datamodule.batch_tokens=4000",
    ]


def test_speakers_are_chosen_as_the_datamodule_does(tmp_path):
    path = lines(tmp_path / "t.jsonl", [*clips(tmp_path, 3, speaker=0), *clips(tmp_path, 2, first=3, speaker=1)])
    report = check(plan_for("speech", train=path, speakers=[1]), processes=1)
    assert report.splits["train"]["rows"] == 2
    assert [each.check for each in check(plan_for("speech", train=path, speakers=[7]), processes=1).findings] == [
        "no-rows"
    ]
    many = check(plan_for("speech", "talker", train=path, most_speakers=1), processes=1)
    assert [setting.override for setting in many.settings] == ["backbone.talker.num_speakers=2"]


def test_a_sample_is_evenly_spread(tmp_path):
    rows = clips(tmp_path, 40)
    for n in range(40):
        rows[n]["text"] = "a" * (n + 1)
    report = check(plan_for("speech", train=lines(tmp_path / "t.jsonl", rows)), processes=1, sample=5)
    assert report.splits["train"]["sample rates"] == {"16000": 5}
    assert report.splits["train"]["characters"]["min"] == 1 and report.splits["train"]["characters"]["max"] == 33
    array = tmp_path / "t.json"  # whose number of rows is not known before
    array.write_text(json.dumps(rows))
    report = check(plan_for("speech", train=array), processes=1, sample=5)
    assert 5 <= report.splits["train"]["sample rates"]["16000"] < 10


def test_segments_beyond_their_recordings_are_one_finding(tmp_path):
    rows = [row | {"segment": [40.0 + n, 50.25 + n]} for n, row in enumerate(clips(tmp_path, 4))]
    found = found_in(plan_for("speech", train=lines(tmp_path / "t.jsonl", rows)))
    (finding,) = found["unreadable-media"]
    assert finding.count == 4 and str(tmp_path) not in finding.what
