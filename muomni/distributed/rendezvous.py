"""The processes of a run before training starts: who is first, who waits, and what all must agree on.

torchrun starts every process with the same command line and tells each its rank by environment variables. One of them
builds the world, trains what is needed first and writes files; the others wait at a store that torchrun hosts, for as long
as it takes (a process group would lose patience after half an hour). A run of one process meets nobody.
"""

import datetime
import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from torch.distributed import TCPStore

#: Environment of a rank: what a process that a rank starts must not inherit.
VARIABLES = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "GROUP_NAME", "ROLE_NAME",
    "ROLE_RANK", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "MUOMNI_STARTED",
)  # fmt: skip
#: torchrun's own start with this.
PREFIX = "TORCHELASTIC_"
PATIENCE = datetime.timedelta(days=30)

_meetings = itertools.count()
_stores: list[TCPStore] = []


def rank() -> int:
    """Of this process, among all of the run."""
    return int(os.environ.get("RANK", "0"))


def ranks() -> int:
    """How many processes the run has."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_ranks() -> int:
    """How many of them run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _store() -> TCPStore:
    """Where the processes meet: torchrun's own, or one that rank 0 hosts at the address that all were given."""
    if not _stores:
        if "MASTER_ADDR" not in os.environ or "MASTER_PORT" not in os.environ:
            raise ValueError(
                f"WORLD_SIZE={ranks()} without MASTER_ADDR and MASTER_PORT: start the processes with torchrun"
            )
        hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        store = TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=rank() == 0 and not hosted,
            timeout=PATIENCE,
            wait_for_workers=False,
            multi_tenant=True,
        )
        _stores.append(store)
    return _stores[0]


def _key() -> str:
    """A new name at the store, the same in each process, since all meet in the same order; new after a restart."""
    return f"muomni/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{next(_meetings)}"


def agree(value: str) -> str:
    """Rank 0's value, in every process."""
    if ranks() == 1:
        return value
    key = _key()
    if rank() == 0:
        _store().set(key, value)
    return _store().get(key).decode()


@contextmanager
def first_alone() -> Iterator[None]:
    """Rank 0 goes through the body alone; then the others do. If it fails, the launcher ends those that wait."""
    if ranks() == 1:
        yield
        return
    key = _key()
    if rank() != 0:
        _store().wait([key])
    yield
    if rank() == 0:
        _store().set(key, "done")


def join() -> None:
    """Before Hydra starts: one run folder for all processes, written by rank 0 alone."""
    if ranks() == 1:
        return
    os.environ["MUOMNI_STARTED"] = agree(f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}")
    if rank() != 0:
        sys.argv += ["hydra.output_subdir=null", "hydra.job_logging.root.level=WARNING"]


def check(devices: int) -> None:
    """Raise ValueError unless a trainer of so many devices, on all machines, has a process for each."""
    if devices != ranks():
        raise ValueError(
            f"the trainer has {devices} devices, but the run has {ranks()} processes: for several start  torchrun "
            "--standalone --nproc-per-node N train.py trainer=ddp ...  (docs/clusters.md), for one leave out trainer=ddp "
            "and trainer.devices"
        )


def leave() -> None:
    """After a run that ended well: close the process group that training opened."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def own_environment() -> dict[str, str]:
    """The environment without what makes this process a rank: for a process that it starts."""
    return {name: value for name, value in os.environ.items() if name not in VARIABLES and not name.startswith(PREFIX)}
