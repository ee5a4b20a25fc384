"""The part that train.py runs: what the datamodules do not say, from rows alone."""

import logging

from datamodules.check import quick
from datamodules.check.quick import log_quick_findings, quick_findings
from tests.unit.datamodules.check.samples import clips, lines, plan_for


def test_clean_data_says_nothing(tmp_path, caplog):
    train, val = lines(tmp_path / "t.jsonl", clips(tmp_path)), lines(tmp_path / "v.jsonl", clips(tmp_path, 2, first=4))
    log_quick_findings(plan_for("speech", train=train, val=val))
    assert caplog.records == []


def test_only_what_the_datamodules_do_not_say(tmp_path, caplog):
    rows = clips(tmp_path, 4, sample_rate=16000)
    rows[1]["sample_rate"] = 8000
    train = lines(tmp_path / "t.jsonl", [*rows, rows[0], "{", {"audio": "missing.wav", "text": "six"}])
    val = lines(tmp_path / "v.jsonl", rows[:2])
    with caplog.at_level(logging.WARNING):
        log_quick_findings(plan_for("speech", train=train, val=val))
    said = [record.getMessage() for record in caplog.records]
    assert all(line.startswith("data, ") and "\n" not in line for line in said)
    found = {finding.check for finding in quick_findings(plan_for("speech", train=train, val=val))}
    assert found == {"duplicates", "header", "leak"}


def test_files_that_the_datamodules_refuse_are_left_to_them(tmp_path, caplog):
    (tmp_path / "t.jsonl").write_bytes(b"\xff\xfe{\x00}\x00")
    log_quick_findings(plan_for("speech", train=tmp_path / "t.jsonl", val=tmp_path / "none.jsonl"))
    assert caplog.records == []


def test_it_reads_a_bounded_part(tmp_path, monkeypatch):
    rows = [{"text": f"a line of text, number {n}, of some length"} for n in range(30)]
    plan = plan_for("text", train=lines(tmp_path / "t.jsonl", [*rows, rows[0]]))
    assert [finding.check for finding in quick_findings(plan)] == ["duplicates"]
    monkeypatch.setattr(quick, "MOST", 30)
    assert list(quick_findings(plan)) == []
