"""docs/tutorial.md: its files are written, its commands run as they stand there, and what it shows is what they print."""

import json
import re
import shlex
import shutil

import pytest

from tests.conftest import ROOT, run_script

PAGE = ROOT / "docs" / "tutorial.md"
#: How the programs are started in a folder that is no checkout, with the packages that a reader adds files to.
PROGRAM = """
import runpy, sys
from pathlib import Path
import datamodules, muomni.evaluation, muomni.stages
for package in (datamodules, muomni.evaluation, muomni.stages):
    package.__path__.append(str(Path({folder!r}) / package.__name__.replace(".", "/")))
runpy.run_path({program!r}, run_name="__main__")
"""
MODULE = """
import runpy, sys
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
#: What makes a training and an answer quick: two steps of the smallest world.
OMNI = ("budget=ci", "trainer.max_steps=2", "module.talker=null", "module.evaluator.max_new_tokens=16")
ANSWER = ("generation.max_new_tokens=8",)


def blocks(text):
    """(language, content) of its fenced blocks."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(block):
    """The commands of a block, by words; a backslash at the end of a line continues it."""
    return [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def written(text, folder):
    """Write the blocks that begin with the name of their file, without that line."""
    for _, block in blocks(text):
        name = re.match(r"# (\S+\.(?:py|yaml))\n", block)
        if name:
            path = folder / name[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block[name.end() :])


def smaller(words, folder):
    """Further words for a program, so that a test can wait for it."""
    if words[0] == "infer.py":
        return () if "transcribe=true" in words else ANSWER
    if words[0] != "train.py":
        return ()
    own = OMNI if "stage=omni_sft" in words else ("budget=ci", "trainer.max_steps=20")
    return (*own, *([] if "data=sft" in words else ["data.preset=ci"]), f"hydra.searchpath=[file://{folder}/conf]")


def run(words, folder):
    """`python WORDS` in the folder."""
    assert words[0] == "python", words
    program = words[2] if words[1] == "-m" else words[1]
    script = folder / ("module.py" if words[1] == "-m" else program)
    arguments = words[2:] if words[1] == "-m" else [*words[2:], *smaller(words[1:], folder)]
    done = run_script(str(script), *arguments, folder=folder)
    assert done.returncode == 0, f"{shlex.join(words)}: {done.stderr[-3000:]}"
    return done


def lines(text):
    """Without what differs between two runs: seconds, and numbers of steps."""
    text = re.sub(r"\bin \d+ s\b", "in S s", re.sub(r"max_steps=\d+", "max_steps=N", text))
    return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]


@pytest.fixture(scope="module")
def reader(line, tmp_path_factory):
    """A folder as it is after the demo, in which the page was followed; stdout of each command."""
    folder, page = tmp_path_factory.mktemp("tutorial") / "checkout", PAGE.read_text()
    shutil.copytree(line, folder, symlinks=True)
    (folder / "docs").mkdir()
    for name in ("world.png", "spoken.wav"):
        shutil.copy(ROOT / "docs" / name, folder / "docs")
    for name in ("train.py", "infer.py"):
        (folder / name).write_text(PROGRAM.format(folder=str(folder), program=str(ROOT / name)))
    (folder / "module.py").write_text(MODULE)
    written(page, folder)
    written((ROOT / "docs" / "architecture.md").read_text().split("## A new stage")[1].split("\n## ")[0], folder)
    followed, last = [], []
    for language, block in blocks(page):
        if language == "bash":
            last = [run(words, folder) for words in commands(block)]
        elif language == "python" and not block.startswith("# "):
            (folder / "page.py").write_text(block)
            last = [run(["python", "page.py"], folder)]
        elif language in ("text", "answer"):
            followed.append((language, block, last))
    return folder, followed


def test_what_is_shown_is_what_the_commands_print(reader):
    _, followed = reader
    shown = [(block, done) for language, block, done in followed if language == "text"]
    assert len(shown) == 2
    for block, done in shown:
        printed = [line for each in done for line in lines(each.stdout + "\n" + each.stderr)]
        assert [line for line in lines(block) if line not in printed] == []


def test_each_question_has_an_answer(reader):
    folder, followed = reader
    shown = [(block, done) for language, block, done in followed if language == "answer"]
    assert len(shown) == 3
    for block, done in shown:
        assert len(block.splitlines()) == len(done), "an answer to each command"
        assert all(each.stdout.endswith("\n") for each in done)
    assert (folder / "said.wav").stat().st_size > 44


def test_its_numbers_are_measured(reader):
    """Each row of its table is a metric of both runs, with the baselines of its columns; the world's is measured too."""
    folder, _ = reader
    before, after, world = (
        json.loads((folder / "runs" / "mine" / name / "metrics.json").read_text())
        for name in ("before", "after", "world")
    )
    rows = re.findall(r"^\| `(\w+/\w+)` \|", PAGE.read_text(), flags=re.MULTILINE)
    assert len(rows) == 3
    for row in rows:
        assert {f"omni_sft/{row}{end}" for end in ("", "_blind", "_majority")} <= before.keys() & after.keys()
    assert {f"omni_sft/{name}" for name in re.findall(r"`(test_iid/\w+)`", PAGE.read_text())} <= world.keys()
    assert "omni_sft/test/image_object" in (folder / "reports" / "mine" / "compare.md").read_text()


def test_the_demos_model_is_as_it_was_and_the_new_stage_has_an_export(reader, line):
    folder, _ = reader
    exports = [root / "checkpoints" / "omni_sft" / "model.safetensors" for root in (line, folder)]
    assert exports[0].read_bytes() == exports[1].read_bytes()
    assert exports[0].read_bytes() != (folder / "checkpoints" / "mine" / "model.safetensors").read_bytes()
    (measured,) = (folder / "runs" / "document").glob("*/metrics.json")
    assert "document/test/accuracy" in json.loads(measured.read_text())
    assert (folder / "checkpoints" / "document" / "model.safetensors").is_file()
