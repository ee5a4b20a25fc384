"""Checkpoints that are whole or not there, and W&B without a login."""

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


def test_a_failed_write_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "x.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": 1}, path)

    def fail(checkpoint, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        AtomicCheckpointIO().save_checkpoint({"a": 2}, path)
    assert AtomicCheckpointIO().load_checkpoint(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


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
