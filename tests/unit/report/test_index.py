"""index.html: one file without a network, the conversation first, worst and best over seeds, right and wrong samples apart."""

import json
import re

from muomni.report.index import is_right
from muomni.report.page import write_report

from .conftest import make_run


def asked(task, kind, question, answer, truth, **media):
    return {
        "split": "test_iid", "id": f"{task}-{kind}", "task": task, "kind": kind, "question": question, "answer": answer,
        "truth": truth, **media,
    }  # fmt: skip


SAMPLES = [
    asked("image_qa", "where", "where is it?", "top left", "top left", image="0.png"),
    asked("image_qa", "colour", "what <colour>?", "red", "blue", image="1.png"),
    asked("asr", "asr", "what was said?", "a red ring", "a red ring", audio="2.wav"),
    asked("text_qa", "fact", "where does ann live?", "oslo", "oslo"),
    asked("spoken_image_qa", "colour", "what colour is it", "red", "red", image="3.png", audio="3.wav"),
    asked("tts", "tts", "say a cat", "a cat", "a cat"),
    asked("tts", "spoken", "a cat", "a cad", "a cat", audio="4.wav"),
]


def write(tmp_path, metrics=({"test_iid/image_count": 96.0},)):
    runs = tmp_path / "runs"
    for seed, measured in enumerate(metrics):
        make_run(runs, "omni_sft", str(seed), measured, samples=SAMPLES if seed == 0 else (), age=seed, seed=seed)
    out = tmp_path / "out"
    write_report(runs=runs, out=out, page=out / "report.md", budget="demo", data="world", command="make demo")
    return out, (out / "index.html").read_text()


def test_one_file_that_loads_nothing_and_begins_with_the_conversation(tmp_path):
    _, page = write(tmp_path)
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', page) == [] and "http://www.w3.org" not in page.split("<svg")[0]
    headings = re.findall(r"<h2>([^<]*)", page)
    assert (
        headings[0] == "The conversation" and headings[1].startswith("Goals") and headings[2:] == ["Curves", "Samples"]
    )
    turns = page.split("<h2>")[1].split('class="turn"')[1:]
    assert len(turns) == 6, "one of each type; the spoken version belongs to what was asked to be said"
    assert [turn.count("<img") for turn in turns] == [1, 1, 0, 0, 1, 0]
    assert [turn.count("<audio") for turn in turns] == [0, 0, 1, 0, 1, 1]
    assert "what &lt;colour&gt;?" in turns[1] and "true answer: blue" in turns[1]


def test_the_goals_have_the_worst_and_the_best_seed(tmp_path):
    measured = [{"test_iid/image_count": value} for value in (96.0, 90.0, 99.0)]
    _, page = write(tmp_path, measured)
    row = next(line for line in page.split("<tr>") if "image QA iid: count" in line)
    assert re.findall(r'<td class="n">([^<]*)', row) == ["96", "90", "99"]
    assert ">reached<" in row


def test_one_seed_alone_has_no_worst(tmp_path):
    _, page = write(tmp_path)
    row = next(line for line in page.split("<tr>") if "image QA iid: count" in line)
    assert re.findall(r'<td class="n">([^<]*)', row) == ["96"]


def test_what_is_wrong_and_what_is_right_are_apart(tmp_path):
    _, page = write(tmp_path)
    section = page.split("<h2>Samples")[1]
    wrong, right = section.split("<summary>right")
    assert "omni_sft: 5 right, 1 wrong" in section
    assert "what &lt;colour&gt;?" in wrong and "what &lt;colour&gt;?" not in right
    assert is_right({"answer": " a ", "truth": "a"}) and not is_right({"answer": "a", "truth": "b"})


def test_five_questions_for_the_terminal(tmp_path):
    out, _ = write(tmp_path)
    rows = [json.loads(line) for line in (out / "ask.jsonl").read_text().splitlines()]
    assert [row["title"].split()[-1] for row in rows] == ["picture", "recording", "text", "picture", "answer"]
    for row in rows:
        assert all((out / row[key]).is_file() for key in ("image", "audio") if key in row)
    assert "text" not in rows[3] and rows[3]["said"] == "what colour is it", "the recording asks"
    assert rows[4]["audio_out"] == "ask/5.wav"
