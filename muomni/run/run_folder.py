"""Run folders: which one a command trains in, whether another process is using it, and what it measured.

    runs/<stage>/<time>/   .hydra/  metrics.csv  metrics.json  run.json  identity.txt  .lock
    runs/<stage>/<time>/checkpoints/   last.ckpt  previous.ckpt  best.ckpt

A killed run is resumed in its own folder. Whether it is dead is not guessed from times or process ids: a running process
holds a lock on its folder, which the kernel releases when the process ends, however it ends.
"""

import contextlib
import fcntl
import json
import logging
import math
import os
import shutil
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from muomni.checkpoints.atomic_write import SUFFIX, write_text
from muomni.distributed import rendezvous
from muomni.run.checkpoint_files import has_checkpoint, resume_point

log = logging.getLogger(__name__)

#: Seconds in which another process of the same configuration may finish dying.
PATIENCE = 10.0

#: What a run folder holds before anything was computed in it.
BEGUN = {".hydra", ".lock", "identity.txt"}


class RunLockedError(RuntimeError):
    """Another process is working on a run of the same configuration."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder that a command works in; of a training also the checkpoint to resume from and the lock, which rank 0 holds."""

    path: Path
    checkpoint: str | None = None
    lock: IO[str] | None = None

    @classmethod
    def for_training(
        cls, new_dir: Path, identity: str, *, runs: Path, resume: str, also: Collection[str] = ()
    ) -> "RunFolder":
        """The folder to train in, in every process of the run: with resume="auto" that of the newest unfinished run of the same
        identity (or of one in `also`) under `runs`, else `new_dir`, which Hydra has just made and which is removed if it is not
        used.

        Raises RunLockedError and ValueError as `acquire`, and ValueError if no checkpoint to resume from is whole.
        """
        path, checkpoint, lock = new_dir, None, None
        if rendezvous.rank() == 0:
            path, lock = acquire(runs, identity, new_dir, resume=resume == "auto", also=also)
            checkpoint = resume_point(path, resume)
        path = Path(rendezvous.broadcast_str(str(path)))
        if path != new_dir:
            remove_if_empty(new_dir)
        return cls(path, rendezvous.broadcast_str(checkpoint or "") or None, lock)

    def release(self) -> None:
        """Give up the lock."""
        if self.lock is not None:
            self.lock.close()


def acquire(
    runs: Path, identity: str, new_dir: Path, *, resume: bool, also: Collection[str] = ()
) -> tuple[Path, IO[str]]:
    """The folder to train in and the lock on it, which holds as long as the file is open.

    resume: the folder of the newest unfinished run of the same identity (or of one in `also`) under `runs`, if there is one. The
    configuration of this command, which Hydra has just written to `new_dir`, is copied there. Otherwise `new_dir`.
    Raises RunLockedError if another process works on that run; one that is dying is waited for. Raises ValueError if Hydra
    was told to use the folder of a run that must not be resumed.
    """
    same = {identity, *also}
    here = _is_resumed_in_place(new_dir, same, resume=resume)
    until = time.monotonic() + PATIENCE
    while True:
        try:
            found = find_unfinished(runs, same, current=new_dir) if resume and not here else None
            folder, held = found or (new_dir, lock(new_dir))
            break
        except RunLockedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
    if folder != new_dir and (new_dir / ".hydra").is_dir():
        shutil.copytree(new_dir / ".hydra", folder / ".hydra", dirs_exist_ok=True)
    for ending in (".part", SUFFIX):  # what a killed process left half-written; the first: of version 0.1
        for partial in [*folder.glob(f".*{ending}"), *folder.glob(f"checkpoints/.*{ending}")]:
            partial.unlink()
    write_text(folder / "identity.txt", identity + "\n")
    return folder, held


def _is_resumed_in_place(new_dir: Path, same: Collection[str], *, resume: bool) -> bool:
    """Whether an unfinished run of such an identity is in the folder that Hydra was told to use (`hydra.run.dir`, or a job of a
    sweep that is queued again). Raises ValueError if another run's checkpoints are there."""
    if not has_checkpoint(new_dir):
        return False
    marker = new_dir / "identity.txt"
    ours = marker.is_file() and marker.read_text().strip() in same
    if resume and ours and not (new_dir / "metrics.json").is_file():
        return True
    raise ValueError(
        f"{new_dir} holds a run that has ended, is of another configuration, or is not to be resumed (resume=): nothing "
        "is written over it; give another hydra.run.dir, or move it away"
    )


def find_unfinished(runs: Path, same: Collection[str], *, current: Path) -> tuple[Path, IO[str]] | None:
    """The newest run folder of one of these identities that has not ended and has a checkpoint, locked; None if there is none.
    Raises RunLockedError if a process is working on it."""
    for marker in sorted(runs.glob("**/identity.txt"), key=lambda path: path.stat().st_mtime, reverse=True):
        folder = marker.parent
        if folder == current or marker.read_text().strip() not in same:
            continue
        if (folder / "metrics.json").is_file():
            return None
        held = lock(folder)
        if has_checkpoint(folder):
            return folder, held
        held.close()
    return None


def lock(folder: Path) -> IO[str]:
    """Lock a run folder for as long as the returned file is open. Raises RunLockedError if another process has the lock.

    A POSIX lock: forked loader workers do not inherit it, and it works on network file systems. If the file system has no
    locks, that is logged and the run continues without.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / ".lock").open("a+")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise RunLockedError(
            f"{folder}: {holder} is training this very configuration; wait for it or stop it, or start a second run with "
            "resume=never"
        ) from None
    except OSError as error:
        log.warning("%s: no locks here (%s); do not start the same run twice at once", folder, error.strerror)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file


@contextlib.contextmanager
def measuring(export: Path | None) -> Iterator[None]:
    """While the export of a training (None: nothing was trained) is measured: an error says that the training has ended,
    since the unfinished run is resumed after its last step, where only measuring is left."""
    try:
        yield
    except Exception as error:
        if export is None:
            raise
        stands = (
            f"the training has ended and {export} is written: once this is fixed, the same command only measures it"
        )
        for mistake in (FileNotFoundError, ValueError):
            if isinstance(error, mistake):
                raise mistake(f"{error}; {stands}") from error
        log.error("%s: %s", type(error).__name__, stands)
        raise


def write_metrics(folder: Path, metrics: Mapping[str, float]) -> Path:
    """metrics.json: flat, "<stage>/<split>/<metric>": number. It marks the run as finished, so it is written whatever the
    metrics are: a number that is not finite is left out and logged."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            log.warning("metric %s is %s: left out", name, value)
    finite = {name: value for name, value in sorted(metrics.items()) if math.isfinite(value)}
    path = folder / "metrics.json"
    write_text(path, json.dumps(finite, indent=2) + "\n")
    return path


def remove_if_empty(folder: Path) -> None:
    """Remove a run folder in which nothing was computed: of a command that was refused, or that resumed another folder; and the
    folder of its tag or stage if that is empty then. One that holds anything else stays, and so does one that another
    process works in."""
    try:
        if {path.name for path in folder.iterdir()} <= BEGUN:
            lock(folder).close()
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.rmdir()
    # A parent with other runs; another process' folder; one that another rank has just removed; a disk so full that it cannot
    # be locked. Whatever it is, it must not hide the error that the command ends with.
    except (RunLockedError, OSError):
        return
