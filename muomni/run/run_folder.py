"""Run folders: which configuration a run had, whether it ended or is alive, its checkpoints, and what it measured.

    runs/<stage>/<time>/   .hydra/  metrics.csv  metrics.json  run.json  identity.txt  .lock
    runs/<stage>/<time>/checkpoints/   last.ckpt  previous.ckpt  best.ckpt

A run that was killed is taken up in its own folder. Whether it is dead is not guessed from times or process ids: a living
run holds a lock on its folder that the kernel drops with the process, however it ends.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import math
import os
import shutil
import socket
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch

from muomni import aliases
from muomni.checkpoints.atomic_write import SUFFIX, atomic_write
from muomni.checkpoints.safe_load import reason

log = logging.getLogger(__name__)

#: What a run is taken up from, in this order: the later ones are there when the first turns out to be damaged.
CHECKPOINTS = ("last.ckpt", "previous.ckpt", "best.ckpt")

#: In the attributes of an entry of a zip archive.
DOS_FOLDER = 0x10

#: Seconds in which another process of the same configuration may finish dying.
PATIENCE = 10.0


class AliveError(RuntimeError):
    """Another process is working on a run of the same configuration."""


#: Of the trainer's options, those that say where a run computes, not what: it goes on elsewhere, or in more processes.
PLACE = ("accelerator", "devices", "num_nodes", "strategy")

#: What a run folder holds before anything was computed in it.
BEGUN = {".hydra", ".lock", "identity.txt"}


def identity(config: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    """16 hex digits over the parts of a configuration that decide what a run computes."""
    chosen = {key: config.get(key) for key in keys}
    if "trainer" in config:
        chosen["trainer"] = {key: value for key, value in config["trainer"].items() if key not in PLACE}
    if "num_workers" in (config.get("datamodule") or {}):
        # The order of the data does not depend on it. It counts as its default, not as absent: so the runs and exports of
        # before keep their identity.
        chosen["datamodule"] = {**config["datamodule"], "num_workers": 0}
    chosen = aliases.former(chosen)
    return hashlib.sha256(json.dumps(chosen, sort_keys=True, default=str).encode()).hexdigest()[:16]


def claim(runs: Path, run_identity: str, fresh: Path, *, take_up: bool) -> tuple[Path, IO[str]]:
    """The folder to train in and the lock on it, which holds as long as it stays open.

    take_up: the folder of the newest unfinished run of the same configuration under `runs`, where there is one. The
    configuration of this command, which Hydra has just written to `fresh`, is copied there. Else `fresh`.
    Raises AliveError where another process works on that run; one that is dying is waited for. Raises ValueError where
    Hydra was told to use the folder of a run that is not to be gone on with.
    """
    here = _goes_on_in(fresh, run_identity, take_up=take_up)
    until = time.monotonic() + PATIENCE
    while True:
        try:
            found = find_unfinished(runs, run_identity, current=fresh) if take_up and not here else None
            folder, lock = found or (fresh, hold(fresh))
            break
        except AliveError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
    _take_over(folder, fresh)
    write_atomically(folder / "identity.txt", run_identity + "\n")
    return folder, lock


def _goes_on_in(fresh: Path, run_identity: str, *, take_up: bool) -> bool:
    """Whether an unfinished run of this configuration lies in the very folder that Hydra was told to use (`hydra.run.dir`, or
    a job of a sweep that is queued again). Raises ValueError where another run's checkpoints lie there."""
    if not has_checkpoint(fresh):
        return False
    marker = fresh / "identity.txt"
    same = marker.is_file() and marker.read_text().strip() == run_identity
    if take_up and same and not (fresh / "metrics.json").is_file():
        return True
    raise ValueError(
        f"{fresh} holds a run that has ended, is of another configuration, or is not to be gone on with (resume=): nothing "
        "is written over it; give another hydra.run.dir, or move it away"
    )


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a file, whole or not, that a run could be taken up from."""
    return any((folder / "checkpoints" / name).is_file() for name in CHECKPOINTS)


def find_unfinished(runs: Path, run_identity: str, *, current: Path) -> tuple[Path, IO[str]] | None:
    """The newest run folder of the same configuration that has not ended and has a checkpoint, locked; None where there
    is none. Raises AliveError where a process is working on it."""
    for marker in sorted(runs.glob("**/identity.txt"), key=lambda path: path.stat().st_mtime, reverse=True):
        folder = marker.parent
        if folder == current or marker.read_text().strip() != run_identity:
            continue
        if (folder / "metrics.json").is_file():
            return None
        lock = hold(folder)
        if has_checkpoint(folder):
            return folder, lock
        lock.close()
    return None


def hold(folder: Path) -> IO[str]:
    """Lock a run folder for as long as the file that this gives stays open. Raises AliveError where another process has it.

    A POSIX lock: forked loader workers do not inherit it, and it works on network file systems. Where the file system has
    no locks at all, that is said and the run goes on without.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / ".lock").open("a+")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise AliveError(
            f"{folder}: {holder} is training this very configuration; wait for it or stop it, or start another run beside it "
            "with resume=never"
        ) from None
    except OSError as error:
        log.warning("%s: no locks here (%s); do not start the same run twice at once", folder, error.strerror)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file


def _take_over(folder: Path, fresh: Path) -> None:
    """The configuration of this command goes along; what a killed process left half-written goes away."""
    if folder != fresh and (fresh / ".hydra").is_dir():
        shutil.copytree(fresh / ".hydra", folder / ".hydra", dirs_exist_ok=True)
    for ending in (".part", SUFFIX):
        for part in [*folder.glob(f".*{ending}"), *folder.glob(f"checkpoints/.*{ending}")]:
            part.unlink()


def discard(folder: Path) -> None:
    """Take away a run folder in which nothing was computed: of a command that was refused, or went on in another folder. One
    that holds anything else stays, and so does one that another process works in."""
    try:
        if {path.name for path in folder.iterdir()} <= BEGUN:
            hold(folder).close()
            shutil.rmtree(folder, ignore_errors=True)
    # Another process' folder; one that another rank has just taken away; a disk so full that it cannot be locked. Whatever it is,
    # it must not hide the error that the command ends with.
    except (AliveError, OSError):
        return


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run folder; None where there is none. A damaged one is named in a line.

    Raises ValueError where all are damaged: whether to begin again is the user's to say.
    """
    broken: list[str] = []
    for name in CHECKPOINTS:
        path = folder / "checkpoints" / name
        damage = damaged(path)
        if damage is None:
            if broken:
                log.warning("falling back to %s", path)
            return path
        if path.exists():
            log.warning("%s is damaged (%s)", path, damage)
            broken.append(name)
    if broken:
        raise ValueError(
            f"{folder}/checkpoints: no whole checkpoint to go on from ({', '.join(broken)} damaged); resume=never begins "
            "anew in a folder of its own, resume=FILE goes on from another checkpoint"
        )
    return None


def damaged(path: Path) -> str | None:
    """What is wrong with a checkpoint file, in a line; None where it is whole.

    Reads all of it, since torch itself checks no checksum. Those do not cover the headers between the tensors: hence the
    check that torch can read the file, and of the one bit that makes it read a tensor as empty, and fill it with what is
    in memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            folders = [entry.filename for entry in archive.infolist() if entry.external_attr & DOS_FOLDER]
        if broken is not None:
            return f"checksum of {broken} is wrong"
        if folders:
            return f"{folders[0]} says that it is a folder"
        torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # a broken header may raise anything
        return reason(error)
    return None


@contextlib.contextmanager
def trained(export: Path | None) -> Iterator[None]:
    """While a training's export (None: there was no training) is measured: what ends that says that the training has ended, since
    an unfinished run is taken up behind its last step, where only measuring is left."""
    try:
        yield
    except Exception as error:
        if export is None:
            raise
        stands = f"the training has ended and {export} stands: mended, the same command only measures it"
        if isinstance(error, ValueError | FileNotFoundError):
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
            raise kind(f"{error}; {stands}") from error
        log.error("%s: %s", type(error).__name__, stands)
        raise


def write_metrics(folder: Path, metrics: Mapping[str, float]) -> Path:
    """metrics.json: flat, "<stage>/<split>/<metric>": number. It says that a run has ended, so that no metric may keep it from
    being written: a number that is not finite is left out, and said."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            log.warning("metric %s is %s: left out", name, value)
    finite = {name: value for name, value in sorted(metrics.items()) if math.isfinite(value)}
    path = folder / "metrics.json"
    write_atomically(path, json.dumps(finite, indent=2) + "\n")
    return path


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text)
