"""What a stage needs first: found, refused by name, or trained by the right command."""

import subprocess
import sys

import pytest
import torch

from muomni import prerequisites
from muomni.checkpoints import save_export
from muomni.models.thinker import Thinker


def export(root, stage, *, size="nano", rank=1):
    torch.manual_seed(0)
    model = Thinker(vocab_size=8, dim=4, num_layers=1, num_heads=1, num_kv_heads=1, ff_dim=4, max_length=4)
    save_export(root / stage, {"thinker": model}, facts={"run": {"size": size, "rank": rank}}, files={})


@pytest.fixture
def started(monkeypatch):
    """Commands that would have run, and the exit code they get."""
    commands = []

    def run(command, check):
        commands.append(command[1:])
        return subprocess.CompletedProcess(command, run.code)

    run.code = 0
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    return commands, run


def ensure(root, needs=("thinker", "codec"), mode="train", overrides=("stage=talker", "size=nano"), rank=1):
    prerequisites.ensure(
        needs, stage="talker", checkpoints=root, size="nano", rank=rank, overrides=list(overrides), mode=mode
    )


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
        ("module.compile_model=false", False),
        ("when_done=skip", False),
        ("task=test", False),
        ("ckpt=x", False),
        ("experiment=an4", False),
    ],
)
def test_what_a_prerequisite_takes_over(override, kept):
    assert prerequisites.shared_overrides([override]) == ([override] if kept else [])


def test_trained_in_order_unless_there(tmp_path, started):
    ensure(tmp_path, needs=("thinker", "audio", "codec"), overrides=("stage=talker", "size=nano", "optim.lr=1"))
    export(tmp_path, "audio")
    ensure(tmp_path, needs=("thinker", "audio"))
    assert [command[1] for command in started[0]] == ["stage=thinker", "stage=audio", "stage=codec", "stage=thinker"]
    assert started[0][0] == ["train.py", "stage=thinker", "size=nano"]


def test_an_export_of_a_smaller_budget_is_trained_again(tmp_path, started):
    export(tmp_path, "thinker", rank=0)
    ensure(tmp_path, needs=("thinker",))
    assert len(started[0]) == 1
    export(tmp_path, "thinker", rank=2)
    ensure(tmp_path, needs=("thinker",))
    assert len(started[0]) == 1


def test_an_export_of_another_size_is_an_error(tmp_path, started):
    export(tmp_path, "thinker", size="tiny")
    with pytest.raises(ValueError, match=r"size=tiny, this run has size=nano: .*paths\.root=DIR"):
        ensure(tmp_path)
    assert started[0] == []


def test_refusal_names_the_command(tmp_path, started):
    with pytest.raises(FileNotFoundError, match=r"stage=talker needs .*codec.*python train\.py stage=codec size=nano"):
        ensure(tmp_path, needs=("codec",), mode="error")
    assert started[0] == []
    with pytest.raises(ValueError, match="prerequisites=perhaps: available are train, error"):
        ensure(tmp_path, mode="perhaps")


def test_a_failure_stops_the_line(tmp_path, started):
    started[1].code = 3
    with pytest.raises(RuntimeError, match="stage=thinker, needed by stage=talker, ended with exit code 3"):
        ensure(tmp_path)
    assert len(started[0]) == 1
