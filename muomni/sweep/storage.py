"""The study's storage in its folder: Optuna's journal, a file to which each process appends, or SQLite.

    <sweep>/study.journal | study.db

A process may be killed at any moment. Its locks are the kernel's, which releases them then; Optuna's own are files, which would
stay. What it had half written to the journal is cut off before the next line is written.
"""

import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

FILES = {"journal": "study.journal", "sqlite": "study.db"}
#: Seconds that a process waits for another one's write to SQLite.
BUSY = 60


class KernelLock(JournalFileOpenLock):
    """Exclusive use of a journal, until the process ends at the latest; a line that a killed process had begun is removed."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self._held: IO[bytes] | None = None

    def acquire(self) -> bool:
        file = self.journal.with_name(f".{self.journal.name}.lock").open("ab")
        fcntl.lockf(file, fcntl.LOCK_EX)
        self._held = file
        _cut_off_torn_line(self.journal)
        return True

    def release(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


def _cut_off_torn_line(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb+") as file:
        end = size
        while end > 0:
            file.seek(end - 1)
            if file.read(1) == b"\n":
                break
            end -= 1
        if end < size:
            file.truncate(end)
            os.fsync(file.fileno())


def open_storage(folder: Path, kind: str) -> BaseStorage:
    """The storage in a sweep's folder, created where there is none. Raises ValueError for a file that is damaged or none of
    Optuna's."""
    path = folder / FILES[kind]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    try:
        if kind == "journal":
            return JournalStorage(JournalFileBackend(str(path), lock_obj=KernelLock(path)))
        return RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": BUSY}})
    except Exception as error:  # of the journal's parser, or of SQLAlchemy
        raise ValueError(
            f"{path} is no storage of a study, or is damaged ({_first_line(error)}): move it away"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock on a file that is made if need be."""
    with path.open("ab") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def claim(path: Path) -> IO[bytes] | None:
    """A lock on a file, held as long as it is open here or in a child that inherits it; None if another process has it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
