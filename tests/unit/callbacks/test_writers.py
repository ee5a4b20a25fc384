"""Checkpoints that are whole or not there, and W&B without a login."""

import os
import resource
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import WandbLogger

from callbacks import wandb_logger as module
from callbacks.atomic_checkpoints import AtomicCheckpointIO


def test_a_checkpoint_comes_back(tmp_path):
    path = tmp_path / "new" / "x.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": torch.ones(2)}, path)
    assert torch.equal(AtomicCheckpointIO().load_checkpoint(path)["a"], torch.ones(2))
    assert list(path.parent.iterdir()) == [path]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("only root may mount a small disk; RLIMIT_FSIZE stands in for it below")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(path):
    """Two checkpoints that fit, then one that does not; gives the error."""
    saves = AtomicCheckpointIO()
    for number in (1, 2):
        saves.save_checkpoint({"a": torch.full((2000,), number)}, path)
    with pytest.raises(RuntimeError) as error:
        saves.save_checkpoint({"a": torch.zeros(100_000)}, path)
    assert saves.load_checkpoint(path)["a"][0] == 2
    assert saves.load_checkpoint(path.with_name("previous.ckpt"))["a"][0] == 1
    assert sorted(p.name for p in path.parent.iterdir()) == ["last.ckpt", "previous.ckpt"], "nothing half-written stays"
    return str(error.value)


def test_a_full_disk_is_one_clear_error(small_disk):
    path = small_disk / "last.ckpt"
    assert fill(path) == (
        f"cannot save {path}: No space left on device; free some space, the same command resumes from last.ckpt"
    )


def test_a_file_that_may_not_grow_too(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        assert "last.ckpt: File too large; free some space" in fill(tmp_path / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_a_folder_that_cannot_be_written():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "last.ckpt")
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            try:
                AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(1)}, path)
            except RuntimeError as error:
                os.write(writer, str(error).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reader, 1000).decode() == (
            f"cannot save {path}: Permission denied; make the folder writable, no checkpoint was written yet"
        )
        assert not os.listdir(folder)


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


def test_a_login_is_a_key_or_an_entry(nobody, monkeypatch):
    assert not module.logged_in()
    nobody.write_text("machine api.wandb.ai\n  login user\n  password x\n")
    nobody.chmod(0o600)
    assert module.logged_in()
    nobody.write_text("machine elsewhere.org\n  login user\n  password x\n")
    assert not module.logged_in()
    monkeypatch.setenv("WANDB_API_KEY", "k")
    assert module.logged_in()


@pytest.mark.parametrize(
    ("mode", "key", "offline"),
    [(None, None, True), (None, "k", False), ("offline", "k", True), ("online", None, False)],
)
def test_a_run_is_offline_without_a_login(nobody, tmp_path, monkeypatch, mode, key, offline):
    for name, value in (("WANDB_MODE", mode), ("WANDB_API_KEY", key)):
        if value is not None:
            monkeypatch.setenv(name, value)
    logger = module.wandb_logger(project="muomni", save_dir=str(tmp_path))
    assert type(logger) is WandbLogger, "callbacks.samples looks it up by its type"
    assert logger._offline is offline


def test_a_run_that_is_taken_up_is_one_run_of_wandb(nobody, tmp_path):
    first, second = (module.wandb_logger(project="muomni", save_dir=str(tmp_path / "run")) for _ in range(2))
    assert (
        first._wandb_init["id"] == second._wandb_init["id"] == (tmp_path / "run" / "wandb-run.txt").read_text().strip()
    )
    other = module.wandb_logger(project="muomni", save_dir=str(tmp_path / "other"))
    assert other._wandb_init["id"] != first._wandb_init["id"]
    assert module.wandb_logger(project="muomni", save_dir=str(tmp_path / "run"), id="mine")._wandb_init["id"] == "mine"
