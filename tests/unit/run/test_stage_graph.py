"""What a stage needs first: found, refused by name, or trained by the right command."""

import sys
from pathlib import Path

import pytest
import torch

from muomni.checkpoints.export import save_export
from muomni.cli.help import CONF
from muomni.models.thinker import Thinker
from muomni.run import stage_graph


def export(root, stage, *, size="nano", level=1):
    torch.manual_seed(0)
    model = Thinker(vocab_size=8, dim=4, num_layers=1, num_heads=1, num_kv_heads=1, ff_dim=4, max_length=4)
    save_export(root / stage, {"thinker": model}, metadata={"run": {"size": size, "level": level}}, files={})


GRAPH = {"thinker": [], "audio": [], "codec": ["audio"], "talker": ["audio", "codec"], "vision": ["thinker"]}

#: Stands for train.py: notes when its stage starts and ends; a stage named in FAIL ends with exit code 3.
SCRIPT = """
import os, sys, time
stage = sys.argv[1].removeprefix("stage=")
folder = os.path.dirname(sys.argv[0])
with open(folder + "/journal", "a") as journal:
    journal.write("start " + stage + " " + os.environ.get("OMP_NUM_THREADS", "-") + chr(10))
time.sleep(0.3)
if stage == os.environ.get("FAIL"):
    sys.exit(3)
with open(folder + "/journal", "a") as journal:
    journal.write("end " + stage + chr(10))
"""


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """A script in place of train.py; gives the file that it writes to."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path / "journal"


def lines(journal: Path) -> list[list[str]]:
    return [line.split() for line in journal.read_text().splitlines()]


def wanted(root, *, level=1):
    return stage_graph.Wanted({stage: root / stage for stage in GRAPH}, "nano", level)


@pytest.mark.parametrize(
    ("override", "kept"),
    [
        ("size=tiny", True),
        ("data.spec.seed=3", True),
        ("paths.root=/x", True),
        ("budget=ci", True),
        ("+budget.thinker.max_steps=3", True),
        ("trainer.accelerator=gpu", True),
        ("trainer=cpu", True),
        ("seed=1", True),
        ("logger=[wandb]", True),
        ("stage=talker", False),
        ("optim.lr=1e-3", False),
        ("trainer.max_steps=5", False),
        ("module.training.compile_model=false", False),
        ("when_done=skip", False),
        ("task=test", False),
        ("ckpt=x", False),
        ("experiment=an4", True),
        ("paths.exports.audio=elsewhere", True),
        ("mel@codec_mel=hop1280", True),
    ],
)
def test_what_a_prerequisite_takes_over(override, kept):
    assert stage_graph.shared_overrides([override]) == ([override] if kept else [])


def test_an_experiments_own_data_reaches_every_prerequisite():
    """So that all stages of one command read the same folder, whatever the experiment calls it."""
    words = ["experiment=fsdd", "fsdd=DIR", "optim.lr=1", "an4=OTHER"]
    assert stage_graph.shared_overrides(words) == ["experiment=fsdd", "fsdd=DIR"]
    assert stage_graph.shared_overrides(["+experiment=[an4]", "an4=DIR"]) == ["+experiment=[an4]", "an4=DIR"]
    assert stage_graph.shared_overrides(["fsdd=DIR", "experiment=none_of_ours"]) == ["experiment=none_of_ours"]


def test_what_an_ablation_changes_takes_over_its_overrides():
    words = ["tag=gqa", "backbone.thinker.num_kv_heads=2", "size=tiny", "optim.lr=1e-3"]
    assert stage_graph.shared_overrides(words) == ["size=tiny"]
    assert stage_graph.shared_overrides(words, ablated=True) == words[:3]
    assert stage_graph.command("thinker", ["ablation=moe"], ablated=True)[-2:] == ["stage=thinker", "ablation=moe"]


def test_missing_is_ordered_and_complete(tmp_path):
    assert stage_graph.missing(["talker", "vision"], GRAPH, wanted(tmp_path)) == [
        "audio", "codec", "talker", "thinker", "vision",
    ]  # fmt: skip
    export(tmp_path, "audio")
    assert stage_graph.missing(["codec"], GRAPH, wanted(tmp_path)) == ["codec"]
    export(tmp_path, "codec")
    assert stage_graph.missing(["codec"], GRAPH, wanted(tmp_path)) == []


def test_a_talker_with_a_pretrained_codec_needs_no_codec_of_its_own(tmp_path):
    for stage in ("thinker", "vision", "audio", "talker"):
        export(tmp_path, stage)
    graph = stage_graph.read_needs(CONF)
    assert stage_graph.missing(graph["omni_sft"], graph, wanted(tmp_path)) == []


def test_an_export_of_a_smaller_budget_is_trained_again(tmp_path):
    export(tmp_path, "thinker", level=0)
    assert stage_graph.missing(["thinker"], GRAPH, wanted(tmp_path)) == ["thinker"]
    export(tmp_path, "thinker", level=2)
    assert stage_graph.missing(["thinker"], GRAPH, wanted(tmp_path)) == []


def test_an_export_of_another_size_is_an_error(tmp_path):
    export(tmp_path, "thinker", size="tiny")
    with pytest.raises(ValueError, match=r"size=tiny, this run has size=nano: .*paths\.root=DIR"):
        stage_graph.missing(["thinker"], GRAPH, wanted(tmp_path))


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_starts_after_what_it_needs(journal, jobs):
    stage_graph.train(["audio", "thinker", "vision", "codec", "talker"], GRAPH, overrides=[], jobs=jobs)
    seen, running, most = set(), 0, 0
    for kind, stage, *_ in lines(journal):
        if kind == "start":
            assert set(GRAPH[stage]) <= seen
            running += 1
        else:
            seen.add(stage)
            running -= 1
        most = max(most, running)
    assert seen == set(GRAPH)
    assert most == jobs


def test_stages_side_by_side_share_the_cores(journal, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    stage_graph.train(["audio"], GRAPH, overrides=[], jobs=2)
    assert lines(journal)[0] == ["start", "audio", "4"]


def test_a_failure_ends_the_line(journal, monkeypatch):
    monkeypatch.setenv("FAIL", "audio")
    with pytest.raises(RuntimeError, match="stage=audio, which is needed first, ended with exit code 3"):
        stage_graph.train(["audio", "codec"], GRAPH, overrides=[], jobs=1)
    assert [line[:2] for line in lines(journal)] == [["start", "audio"]]


def test_the_command_a_person_would_type(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    said = stage_graph.shown("codec", ["stage=talker", "size=nano", "optim.lr=1"])
    assert said == "python train.py stage=codec size=nano"


def test_reads_the_needs_of_every_stage():
    graph = stage_graph.read_needs(Path(stage_graph.__file__).parents[2] / "conf")
    assert graph["thinker"] == []
    assert graph["talker"] == ["audio", "codec"]
    told = stage_graph.read_needs(Path(stage_graph.__file__).parents[2] / "conf", tells_states=True)
    assert told == graph | {"talker": ["thinker", "audio", "codec"]}


def test_several_processes_train_it_by_as_many(monkeypatch, journal):
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert stage_graph.command("audio", ["trainer=ddp"])[1:] == [
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4", sys.argv[0], "stage=audio", "trainer=ddp",
    ]  # fmt: skip
    assert stage_graph.side_by_side() == 1
