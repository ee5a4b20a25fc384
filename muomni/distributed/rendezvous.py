"""The processes of a run before training starts: which goes first, which wait, and values that all share.

torchrun starts every process with the same command line and sets its rank in the environment. Rank 0 builds the data, trains
the stages that are needed first and writes files; the others wait at torchrun's TCP store, for as long as it takes (a process
group times out after half an hour). In a run of one process all of this is a no-op.
"""

import datetime
import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from torch.distributed import TCPStore

#: Environment variables of a rank, which a process that it starts must not inherit.
VARIABLES = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "GROUP_NAME", "ROLE_NAME",
    "ROLE_RANK", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "MUOMNI_STARTED",
)  # fmt: skip
#: Of torchrun's own variables.
PREFIX = "TORCHELASTIC_"
TIMEOUT = datetime.timedelta(days=30)

_calls = itertools.count()
_stores: list[TCPStore] = []


def rank() -> int:
    """Rank of this process in the run."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes the run has."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world_size() -> int:
    """How many of its processes run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _store() -> TCPStore:
    """torchrun's store, or one that rank 0 hosts at MASTER_ADDR."""
    if not _stores:
        if "MASTER_ADDR" not in os.environ or "MASTER_PORT" not in os.environ:
            raise ValueError(
                f"WORLD_SIZE={world_size()} without MASTER_ADDR and MASTER_PORT: start the processes with torchrun"
            )
        hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        master = rank() == 0 and not hosted
        store = TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=master, timeout=TIMEOUT,
            wait_for_workers=False, multi_tenant=True,
        )  # fmt: skip
        _stores.append(store)
    return _stores[0]


def _key() -> str:
    """A new key, the same in each process, since all call in the same order; another after a restart."""
    return f"muomni/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{next(_calls)}"


def broadcast_str(value: str) -> str:
    """Rank 0's value, in every process."""
    if world_size() == 1:
        return value
    key = _key()
    if rank() == 0:
        _store().set(key, value)
    return _store().get(key).decode()


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Rank 0 runs the body, then the others do. If it fails, the launcher ends those that wait."""
    if world_size() == 1:
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
    if world_size() == 1:
        return
    os.environ["MUOMNI_STARTED"] = broadcast_str(f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}")
    if rank() != 0:
        sys.argv += ["hydra.output_subdir=null", "hydra.job_logging.root.level=WARNING"]


def check_devices(devices: int) -> None:
    """Raise ValueError unless there is a process for each of the trainer's devices on all machines."""
    if devices != world_size():
        raise ValueError(
            f"the trainer has {devices} devices, but the run has {world_size()} processes: for several start  torchrun "
            "--standalone --nproc-per-node N train.py trainer=ddp ...  (docs/clusters.md), for one leave out trainer=ddp "
            "and trainer.devices"
        )


def leave() -> None:
    """After a run that ended well: close the process group that training opened."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def without_rank() -> dict[str, str]:
    """The environment without the variables of a rank: for a process that a rank starts."""
    return {name: value for name, value in os.environ.items() if name not in VARIABLES and not name.startswith(PREFIX)}
