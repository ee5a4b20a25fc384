"""The processes of a run before training starts: one goes first, the others wait, all agree."""

import multiprocessing
import os
import socket
import sys
import time

import pytest

from muomni.distributed import rendezvous


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    for name in rendezvous.VARIABLES:
        monkeypatch.delenv(name, raising=False)


def _process(rank, port, folder):
    """What train.py does before Hydra starts, and around what one process makes for all."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = str(port)
    rendezvous.join()
    with rendezvous.rank_zero_first():
        if rank == 0:
            time.sleep(0.3)
            (folder / "made").touch()
        found = (folder / "made").exists()
    said = rendezvous.broadcast_str(f"from {rank}")
    (folder / str(rank)).write_text(f"{found} {said} {os.environ['MUOMNI_STARTED']} {sys.argv[-2:]}")
    rendezvous.broadcast_str("both have written")
    if rank == 0:  # it hosts the store
        rendezvous._store().wait(["left"])
    else:
        rendezvous._store().set("left", "")


def test_one_goes_first_and_all_agree(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_process, args=(rank, port, tmp_path)) for rank in (1, 0)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    first, second = ((tmp_path / str(rank)).read_text().split(maxsplit=4) for rank in (0, 1))
    assert first[:4] == second[:4] and first[:3] == ["True", "from", "0"]
    assert "hydra.output_subdir=null" in second[4] and "hydra.output_subdir=null" not in first[4]


def test_alone_nobody_is_met():
    rendezvous.join()
    assert "MUOMNI_STARTED" not in os.environ
    assert rendezvous.broadcast_str("mine") == "mine"
    with rendezvous.rank_zero_first():
        pass


def test_what_a_rank_starts_is_no_rank(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("KEPT", "yes")
    own = rendezvous.without_rank()
    assert own["KEPT"] == "yes" and "RANK" not in own and "TORCHELASTIC_RUN_ID" not in own


def test_devices_without_processes_are_refused(monkeypatch):
    rendezvous.check_devices(1)
    with pytest.raises(ValueError, match=r"2 devices, but the run has 1 processes: for several start  torchrun"):
        rendezvous.check_devices(2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"1 devices, but the run has 2 processes"):
        rendezvous.check_devices(1)
    with pytest.raises(ValueError, match=r"WORLD_SIZE=2 without MASTER_ADDR and MASTER_PORT"):
        rendezvous.broadcast_str("x")
