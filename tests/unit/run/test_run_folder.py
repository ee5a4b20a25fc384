"""Run folders: which one is gone on with, and what a metrics file holds."""

import json
import os
import shutil
import subprocess
import sys
import threading

import pytest
import torch

from muomni.checkpoints.atomic_write import write_text
from muomni.run.checkpoint_files import damaged, newest_checkpoint
from muomni.run.identity import identity, with_origins
from muomni.run.run_folder import RunLockedError, acquire, lock, measuring, remove_if_empty, write_metrics
from tests.conftest import ROOT


def make(runs, name, *, of="mine", checkpoint=True, ended=False, age=0):
    folder = runs / name
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    write_text(folder / "identity.txt", of)
    if checkpoint:
        torch.save({"step": name}, folder / "checkpoints" / "last.ckpt")
    if ended:
        write_metrics(folder, {})
    os.utime(folder / "identity.txt", (1e9 - age, 1e9 - age))
    return folder


def taken_up(runs, **how):
    """The name of the folder that a new command trains in."""
    folder, held = acquire(runs, "mine", runs / "now", resume=True)
    assert (folder / "identity.txt").read_text() == "mine\n"
    held.close()
    return folder.name


@pytest.fixture
def runs(tmp_path):
    (tmp_path / "now" / ".hydra").mkdir(parents=True)
    (tmp_path / "now" / ".hydra" / "overrides.yaml").write_text("- logger=wandb")
    return tmp_path


def test_the_newest_unfinished_run_of_the_same_configuration(runs):
    make(runs, "old", age=20)
    folder = make(runs, "new", age=10)
    make(runs, "other", of="another", age=1)
    (folder / "checkpoints" / ".last.ckpt.12.part").touch()
    (folder / ".metrics.csv.12.part").touch()
    assert taken_up(runs) == "new"
    assert (folder / ".hydra" / "overrides.yaml").read_text() == "- logger=wandb", "what the command was this time"
    assert not list(folder.glob("**/*.part")), "what was half-written is gone"


def test_a_run_that_began_from_other_exports_is_left(runs):
    def go_on(name, **begun):
        folder, held = acquire(runs, with_origins("mine", begun), runs / name, resume=True, also={"mine"})
        held.close()
        return folder.name, (folder / "identity.txt").read_text()

    make(runs, "other", of="mine audio=old", age=10)
    assert go_on("now", vision="b", audio="a") == ("now", "mine audio=a,vision=b\n")
    make(runs, "now", of="mine audio=a,vision=b")
    assert go_on("later", audio="a", vision="b") == ("now", "mine audio=a,vision=b\n")
    shutil.rmtree(runs / "now")
    make(runs, "earlier_version")
    assert go_on("later", audio="a", vision="b") == ("earlier_version", "mine audio=a,vision=b\n")


def test_a_job_of_a_multirun_is_found_too(runs):
    make(runs, "sweep/0", age=5)
    assert taken_up(runs) == "0"


def test_a_run_without_a_checkpoint_is_passed_over(runs):
    make(runs, "killed-early", checkpoint=False, age=1)
    make(runs, "longer", age=2)
    assert taken_up(runs) == "longer"


def test_nothing_before_a_finished_run_is_taken_up(runs):
    make(runs, "crashed", age=9)
    make(runs, "ended", ended=True, age=3)
    assert taken_up(runs) == "now"


def test_no_runs_at_all(runs):
    assert taken_up(runs) == "now"
    make(runs, "crashed")
    folder, _ = acquire(runs, "mine", runs / "now", resume=False)
    assert folder == runs / "now"


def test_a_folder_that_was_named_is_gone_on_with_or_left_alone(runs):
    """hydra.run.dir, or a job of a sweep that SLURM queues again."""
    make(runs, "other-place")
    folder = make(runs, "now", age=5)
    (folder / "checkpoints" / ".last.ckpt.12.part").touch()
    assert taken_up(runs) == "now" and not list(folder.glob("**/*.part"))
    refused = r"now holds a run that has ended, is of another configuration, or .*; give another hydra\.run\.dir"
    with pytest.raises(ValueError, match=refused):
        acquire(runs, "mine", folder, resume=False)
    with pytest.raises(ValueError, match=refused):
        acquire(runs, "another", folder, resume=True)
    write_metrics(folder, {})
    with pytest.raises(ValueError, match=refused):
        acquire(runs, "mine", folder, resume=True)
    assert (folder / "identity.txt").read_text() == "mine\n"


HOLDER = """
import sys, time
from pathlib import Path
from muomni.run.run_folder import lock
held = lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def alive(runs):
    """A run folder that another process is training in; and that process."""
    folder = make(runs, "alive")
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_a_run_that_is_alive_is_not_taken_up(runs, alive, monkeypatch):
    monkeypatch.setattr("muomni.run.run_folder.PATIENCE", 0.0)
    with pytest.raises(RunLockedError, match=rf"alive: process {alive.pid} on .* is training this very .*resume=never"):
        acquire(runs, "mine", runs / "now", resume=True)
    assert (runs / "now").is_dir()
    alive.kill()
    alive.wait()
    assert taken_up(runs) == "alive", "its lock died with it"


def test_a_dying_run_is_waited_for(runs, alive):
    threading.Timer(0.5, alive.kill).start()
    assert taken_up(runs) == "alive"


def test_a_folder_in_which_nothing_was_computed_goes_away(runs, alive):
    folder, held = acquire(runs, "mine", runs / "now", resume=False)
    remove_if_empty(folder)
    assert not folder.exists()
    remove_if_empty(folder)
    held.close()
    for name in ("checkpoints/last.ckpt", "metrics.csv", "notes.txt"):
        folder = runs / name.partition(".")[0]
        lock(folder).close()
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
        remove_if_empty(folder)
        assert (folder / name).is_file(), "not ours to take away"
    shutil.rmtree(runs / "alive" / "checkpoints")
    remove_if_empty(runs / "alive")
    assert (runs / "alive" / "identity.txt").is_file(), "another process has just begun in it"


def test_a_refused_command_leaves_no_folder_of_its_tag(runs):
    for name in ("thinker/gqa/now", "vision/gqa/now"):
        (runs / name / ".hydra").mkdir(parents=True)
    make(runs, "vision/gqa/before")
    for stage in ("thinker", "vision"):
        remove_if_empty(runs / stage / "gqa" / "now")
    assert [path.name for path in (runs / "thinker").iterdir()] == []
    assert [path.name for path in (runs / "vision" / "gqa").iterdir()] == ["before"], "of another run"


def test_a_run_of_an_earlier_identity_is_resumed_and_gets_todays(runs):
    folder = make(runs, "former", of="hash of 0.1")
    assert acquire(runs, "mine", runs / "now", resume=True)[0] == runs / "now"
    found, held = acquire(runs, "mine", runs / "now", resume=True, also={"hash of 0.1"})
    held.close()
    assert found == folder and (folder / "identity.txt").read_text() == "mine\n"


def test_tidying_up_hides_no_error(runs, monkeypatch):
    """A disk so full that not even a lock can be written ends the command with an error of its own."""
    folder = runs / "full"
    folder.mkdir(parents=True)

    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("muomni.run.run_folder.lock", full)
    remove_if_empty(folder)
    assert folder.is_dir()


def test_a_damaged_checkpoint_is_said_and_passed_over(runs, caplog):
    folder = make(runs, "killed")
    last, previous, best = (folder / "checkpoints" / f"{name}.ckpt" for name in ("last", "previous", "best"))
    whole = last.read_bytes()
    for path in (previous, best):
        path.write_bytes(whole)
    assert newest_checkpoint(folder) == last
    last.write_bytes(whole[: len(whole) // 2])
    assert newest_checkpoint(folder) == previous
    assert "last.ckpt is damaged (File is not a zip file)" in caplog.text
    assert f"falling back to {previous}" in caplog.text
    place = whole.index(b"killed")
    previous.write_bytes(whole[:place] + b"k1" + whole[place + 2 :])
    assert newest_checkpoint(folder) == best
    assert "previous.ckpt is damaged (checksum of" in caplog.text
    best.write_bytes(b"")
    with pytest.raises(ValueError, match=r"\(last.ckpt, previous.ckpt, best.ckpt damaged\); resume=never starts again"):
        newest_checkpoint(folder)
    for path in (last, previous, best):
        path.unlink()
    assert newest_checkpoint(folder) is None
    assert damaged(folder / "none.ckpt").endswith("No such file or directory: '" + str(folder / "none.ckpt") + "'")


def test_no_flipped_bit_goes_unseen(tmp_path):
    """Whatever bit of a checkpoint flips: it is found, or changes nothing of what is read. In the directory at the end of
    the file each bit in turn, before it one of a byte."""
    path, value = tmp_path / "last.ckpt", torch.arange(5.0)
    torch.save({"w": value, "step": 3}, path)
    whole, harmless = path.read_bytes(), 0
    directory = whole.index(b"PK\x01\x02")
    flips = [(place, place % 8) for place in range(directory)]
    flips += [(place, bit) for place in range(directory, len(whole)) for bit in range(8)]
    for place, bit in flips:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        if damaged(path) is None:
            harmless += 1
            found = torch.load(path)
            assert found["step"] == 3 and torch.equal(found["w"], value), f"bit {bit} of byte {place}"
    assert harmless < len(flips) / 2


def test_identity_is_of_the_chosen_keys_alone():
    config = {"stage": {"name": "thinker"}, "seed": 0, "paths": "a"}
    same = identity(config, ("stage", "seed"))
    assert identity(config | {"paths": "b"}, ("stage", "seed")) == same
    assert identity(config | {"seed": 1}, ("stage", "seed")) != same
    assert len(same) == 16


def test_metrics_are_flat_sorted_and_finite(tmp_path, caplog):
    path = write_metrics(tmp_path, {"b/test/x": 1.5, "a/test/y": 2})
    assert list(json.loads(path.read_text()).items()) == [("a/test/y", 2), ("b/test/x", 1.5)]
    for bad in (float("nan"), float("inf"), float("-inf")):
        caplog.clear()
        write_metrics(tmp_path, {"a/test/y": bad, "a/test/z": 1})
        assert json.loads(path.read_text()) == {"a/test/z": 1}, "the run has ended, whatever a metric says"
        assert f"metric a/test/y is {bad}: left out" in caplog.text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with pytest.raises(TypeError):
        write_text(path, 3)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_where_a_run_computes_is_no_part_of_its_identity():
    """So that it goes on elsewhere, or in another number of processes."""

    def of(**trainer):
        return identity({"trainer": {"max_steps": 5} | trainer}, ("trainer",))

    assert of(devices=1) == of(devices=2, num_nodes=2, strategy="ddp", accelerator="gpu") != of(max_steps=6)


def test_what_ends_a_test_after_a_training_says_that_the_export_stands(tmp_path, caplog):
    with (
        pytest.raises(
            ValueError, match=r"^bad row; the training has ended and \S+ is written: .* the same command only"
        ),
        measuring(tmp_path),
    ):
        raise ValueError("bad row")
    with (
        pytest.raises(FileNotFoundError, match="no file; the training has ended"),
        measuring(tmp_path),
    ):
        raise FileNotFoundError("no file")
    with pytest.raises(KeyError), measuring(tmp_path):
        raise KeyError("x")
    assert "KeyError: the training has ended" in caplog.text
    with pytest.raises(ValueError, match="^bad row$"), measuring(None):
        raise ValueError("bad row")
