"""Run folders: which one is gone on with, and what a metrics file holds."""

import json
import os

import pytest

from muomni.runs import find_unfinished, identity, mark, write_atomically, write_metrics


def make(runs, name, *, of="mine", checkpoint=True, ended=False, age=0):
    folder = runs / name
    mark(folder, of)
    if checkpoint:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "resume.ckpt").touch()
    if ended:
        write_metrics(folder, {})
    os.utime(folder / "identity.txt", (1e9 - age, 1e9 - age))
    return folder


def found(runs):
    path = find_unfinished(runs, "mine", current=runs / "now")
    return None if path is None else path.parent.parent.name


@pytest.fixture
def runs(tmp_path):
    make(tmp_path, "now")
    return tmp_path


def test_the_newest_unfinished_run_of_the_same_configuration(runs):
    make(runs, "old", age=20)
    make(runs, "new", age=10)
    make(runs, "other", of="another", age=1)
    assert found(runs) == "new"


def test_a_job_of_a_multirun_is_found_too(runs):
    make(runs, "sweep/0", age=5)
    assert found(runs) == "0"


def test_a_run_without_a_checkpoint_is_passed_over(runs):
    make(runs, "killed-early", checkpoint=False, age=1)
    make(runs, "longer", age=2)
    assert found(runs) == "longer"


def test_nothing_before_a_finished_run_is_taken_up(runs):
    make(runs, "crashed", age=9)
    make(runs, "ended", ended=True, age=3)
    assert found(runs) is None


def test_no_runs_at_all(tmp_path):
    assert find_unfinished(tmp_path / "none", "mine", current=tmp_path) is None


def test_identity_is_of_the_chosen_keys_alone():
    config = {"stage": {"name": "thinker"}, "seed": 0, "paths": "a"}
    same = identity(config, ("stage", "seed"))
    assert identity(config | {"paths": "b"}, ("stage", "seed")) == same
    assert identity(config | {"seed": 1}, ("stage", "seed")) != same
    assert len(same) == 16


def test_metrics_are_flat_sorted_and_finite(tmp_path):
    path = write_metrics(tmp_path, {"b/test/x": 1.5, "a/test/y": 2})
    assert list(json.loads(path.read_text()).items()) == [("a/test/y", 2), ("b/test/x", 1.5)]
    for bad in (float("nan"), float("inf"), float("-inf")):
        with pytest.raises(ValueError, match="metric a/test/y is"):
            write_metrics(tmp_path, {"a/test/y": bad})
    assert json.loads(path.read_text())["a/test/y"] == 2


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    write_atomically(path, "old")
    with pytest.raises(TypeError):
        write_atomically(path, 3)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_where_a_run_computes_is_no_part_of_its_identity():
    """So that it goes on elsewhere, or in another number of processes."""

    def of(**trainer):
        return identity({"trainer": {"max_steps": 5} | trainer}, ("trainer",))

    assert of(devices=1) == of(devices=2, num_nodes=2, strategy="ddp", accelerator="gpu") != of(max_steps=6)
