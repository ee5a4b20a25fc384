"""The command: exit codes, the JSON document, files, stages by their data, and what people read."""

import json
import logging
import sys

import pytest

from datamodules.check import __main__ as program
from datamodules.check.command import checked_report
from datamodules.check.finding import Bars, Finding, Report, Setting, Severity
from datamodules.check.terminal import WIDTH, render
from tests.unit.datamodules.check.samples import clips, image, lines


@pytest.fixture(autouse=True)
def _loggers_stay_as_they_are():
    logger = logging.getLogger("datamodules.manifests")
    yield
    logger.filters.clear()


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["check", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        program.run()
    return ended.value.code


@pytest.fixture
def speech(tmp_path):
    train, val = lines(tmp_path / "t.jsonl", clips(tmp_path)), lines(tmp_path / "v.jsonl", clips(tmp_path, 2, first=4))
    return ["data=speech", f"data.train={train}", f"data.val={val}", f"paths.root={tmp_path}"]


def test_clean_data_is_0_and_data_with_errors_1(monkeypatch, capsys, tmp_path, speech):
    assert run(monkeypatch, *speech) == 0
    assert "Nothing to complain of." in capsys.readouterr().out
    (tmp_path / "1.wav").unlink()
    assert run(monkeypatch, *speech) == 1
    assert "t.jsonl:2: missing file 1.wav" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data=speech", "data.train=none.jsonl"], "data.train=none.jsonl: no such file"),
        (["data=speech"], "no data"),
        (["data=speech", "data.trian=a.jsonl"], "unknown option 'trian'"),
        (["data=speech", "sample=0"], "sample=0"),
        (["--jason"], "--jason"),
        (["what"], "'what' is no option"),
    ],
)
def test_wrong_usage_is_2_and_one_line(monkeypatch, capsys, words, said):
    assert run(monkeypatch, *words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and said in err and err.count("\n") == 1


def test_help_names_the_options(monkeypatch, capsys):
    assert run(monkeypatch, "--help") == 0
    assert "sample=N" in capsys.readouterr().out


def test_the_document_and_the_files(monkeypatch, capsys, tmp_path, speech):
    assert run(monkeypatch, *speech, "--json", f"out={tmp_path / 'made'}") == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == [
        "schema", "stage", "data", "sample", "seconds", "passed", "counts", "findings", "settings", "splits", "histograms",
    ]  # fmt: skip
    assert (document["schema"], document["stage"], document["passed"]) == (1, "audio", True)
    assert json.loads((tmp_path / "made" / "check.json").read_text())["splits"] == document["splits"]
    assert (tmp_path / "made" / "lengths.png").read_bytes().startswith(b"\x89PNG")


def test_schema_of_the_document():
    """Keys are a promise: removing or renaming one raises SCHEMA."""
    finding = Finding(severity=Severity.NOTE, check="c", split="train", what="w", where=["a:1"], remedy="r")
    report = Report(stage="audio", data="speech", sample=None, findings=[finding])
    report.settings.append(Setting(option="a.b", value=2.5, why="so"))
    report.histograms.append(Bars(title="t", unit="s", split="train", bins=[(0, 1, 2)]))
    document = json.loads(json.dumps(report.document()))
    assert list(document["findings"][0]) == ["severity", "check", "split", "what", "where", "remedy", "count", "total"]
    assert document["counts"] == {"error": 0, "warning": 0, "note": 1}
    assert document["settings"] == [{"option": "a.b", "value": 2.5, "why": "so", "override": "a.b=2.5"}]
    assert document["histograms"] == [{"title": "t", "unit": "s", "split": "train", "bins": [[0, 1, 2]]}]


@pytest.mark.parametrize(("data", "stage"), [("image_text", "vision"), ("ocr", "ocr"), ("text", "thinker")])
def test_the_stage_follows_from_the_data(tmp_path, data, stage):
    row = (
        {"text": "a red fox"}
        if data == "text"
        else {"image": image(tmp_path / "a.png", size=(99, 99)), "text": "a", "caption": "a"}
    )
    path = lines(tmp_path / "t.jsonl", [row] * 1)
    report, _ = checked_report([f"data={data}", f"data.train={path}", f"paths.root={tmp_path}"], sample=None)
    assert report.stage == stage and report.splits["val"]["same as"] == "train"
    assert ("tokenizer" in {finding.check for finding in report.findings}) == (data == "text")  # too little text


def test_conversations_before_there_is_a_tokenizer(tmp_path):
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    path = lines(tmp_path / "t.jsonl", [{"messages": turns}])
    report, _ = checked_report(["data=sft", f"data.train={path}", f"paths.root={tmp_path}"], sample=None)
    assert "no-tokenizer" in {finding.check for finding in report.findings}


def test_people_read_the_worst_first_in_80_columns():
    findings = [
        Finding(
            severity=severity, check=check, split=split, what="words " * 30, where=["x" * 200], remedy="do " * 40,
            count=count, total=10,
        )
        for severity, check, split, count in (
            (Severity.NOTE, "n", "train", 9), (Severity.WARNING, "w", "train", 1), (Severity.WARNING, "v", "val", 3),
            (Severity.ERROR, "e", "train", 1), (Severity.WARNING, "w", "test/a", 1))
    ]  # fmt: skip
    report = Report(stage="audio", data="speech", sample=7, findings=findings)
    report.splits = {
        name: {"rows": 12345, "seconds": {"min": 0.1, "median": 1.25, "p95": 2, "max": 30}}
        for name in ("train", "test/with_a_long_name_of_its_own")
    }
    report.histograms = [Bars(title="length", unit="s", split="train", bins=[(0, 0.5, 10), (0.5, 31, 2)])] * 2
    text = render(report)
    assert max(map(len, text.splitlines())) <= WIDTH
    order = [
        line.split()[0]
        for line in text.splitlines()
        if line[:1].isupper() and line.split()[0].isupper() and len(line.split()[0]) > 1
    ]
    assert order == ["ERROR", "WARNING", "WARNING", "NOTE"]
    assert "0.1 1.25 30" in text and "12,345" in text and "about 7 rows" in text


def test_ctrl_c_is_130_without_a_traceback(monkeypatch, capsys):
    def interrupted(words):
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "main", interrupted)
    assert run(monkeypatch) == 130
    assert capsys.readouterr().err == "interrupted\n"
