"""Files and folders that are whole or not there.

Content is written under a temporary name (`SUFFIX`) next to the target and renamed at the end. A symbolic link stays, and its
target is replaced, so that `checkpoints/thinker` may be on another disk. Devices, pipes and descriptors (/dev/null, a FIFO,
/dev/stdout) are written through: to replace one would take it away from the whole machine. Modes are those of any new file of
the user (umask), or those that the file had.

Not atomicwrites: it is no longer maintained, knows no folders, and replaces a symbolic link instead of its target.
"""

import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUFFIX = ".muomni-partial"
LONGEST_NAME = 200  # bytes of a target's name that its temporary name repeats; file systems allow 255 in all
DESCRIPTORS = ("/proc/", "/dev/fd/", "/dev/std")  # links that stand for open files, and lead nowhere else
MOST_LINKS = 40


def follow(path: Path) -> Path:
    """Where a symbolic link leads, also one whose target is yet to be written; itself where it is none.

    Raises FileNotFoundError where the target's folder is missing (a disk that is not mounted), ValueError for a loop.
    """
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise ValueError(f"{path} is a symbolic link that leads back to itself: mend it")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"{path} is a symbolic link to {target}, whose folder is not there: make it or mend the link"
        )
    return target


def is_written_through(path: Path) -> bool:
    """Whether there is something at the path that is no file and no folder, or stands for an open descriptor."""
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing there
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _is_descriptor(path)


def _is_descriptor(path: Path) -> bool:
    for _ in range(MOST_LINKS):
        if os.path.abspath(path).startswith(DESCRIPTORS):
            return True
        if not path.is_symlink():
            return False
        path = path.parent / os.readlink(path)
    return False


@contextmanager
def atomic_write(path: Path | str, *, durable: bool = False, previous: str | None = None) -> Iterator[Path]:
    """Yield the name of an empty temporary file; what was written there becomes `path` when the block ends without error.

    durable: flush file and rename to the disk, so that they survive a power cut. previous: the name under which the file
    that was there is kept. An OSError of the writing (a full disk, a folder of someone else) names `path`.
    """
    path = Path(path)
    if is_written_through(path):
        with (
            tempfile.TemporaryDirectory(prefix="muomni-") as folder,
            _named(path, Path(folder) / "content") as temporary,
        ):
            yield temporary
            with temporary.open("rb") as source, path.open("wb") as device:
                shutil.copyfileobj(source, device)
        return
    target = follow(path)
    temporary = partial_name(target)
    try:
        with _named(path, temporary):
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            mode = stat.S_IMODE((target if target.exists() else temporary).stat().st_mode)
            yield temporary
            temporary.chmod(mode)  # some writers have an opinion of their own
            if durable:
                _flush(temporary)
            if previous is not None and target.exists():
                os.replace(target, target.with_name(previous))
            os.replace(temporary, target)
            if durable:
                _flush(target.parent)
    finally:
        with suppress(OSError):  # which must not hide what went wrong before
            temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text)


@contextmanager
def _named(path: Path, temporary: Path) -> Iterator[Path]:
    """Errors of the temporary file, or of no file, get the name of the file that the user knows."""
    try:
        yield temporary
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def partial_name(target: Path) -> Path:
    """A new temporary name next to a target."""
    return target.with_name(f"{_beginning(target)}{secrets.token_hex(4)}{SUFFIX}")


def _beginning(target: Path) -> str:
    return f".{os.fsdecode(os.fsencode(target.name)[:LONGEST_NAME])}."


def remove_partials(target: Path) -> None:
    """Remove what killed processes left next to a target: names of `partial_name`, and nothing else."""
    ours = re.compile(re.escape(_beginning(target)) + "[0-9a-f]{8}" + re.escape(SUFFIX))
    for path in target.parent.iterdir():
        if ours.fullmatch(path.name):
            _remove(path)


@contextmanager
def atomic_folder(folder: Path, *, own: Container[str]) -> Iterator[Path]:
    """Yield a temporary folder; what was written there becomes `folder` when the block ends without error.

    own: names in the old folder that go with it; whatever else someone put there is taken over.
    """
    target = follow(folder)
    remove_partials(target)
    temporary = partial_name(target)
    with _named(folder, temporary):
        temporary.mkdir()
    try:
        yield temporary
        if target.is_dir():
            kept = {path.name for path in temporary.iterdir()}
            shutil.copytree(
                target, temporary, symlinks=True, dirs_exist_ok=True,
                ignore=lambda at, names: [n for n in names if n in own or n in kept] if at == str(target) else [],
            )  # fmt: skip
        _put_in_place(temporary, target, own)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _put_in_place(new: Path, target: Path, own: Container[str]) -> None:
    """Rename `new` to `target`; what was there is removed last."""
    if not target.exists():
        os.replace(new, target)
        return
    shutil.copymode(target, new)
    old = partial_name(target)
    try:
        os.replace(target, old)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EXDEV):
            raise
        _fill(new, target, own)  # a mount point cannot be renamed
        return
    try:
        os.replace(new, target)
    except OSError:
        os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _fill(new: Path, target: Path, own: Container[str]) -> None:
    """Put own files into a folder that cannot be replaced. The first by name goes first and comes back last: without it the
    folder is not taken for whole."""
    for path in sorted(path for path in target.iterdir() if path.name in own):
        _remove(path)
    for path in sorted((path for path in new.iterdir() if path.name in own), reverse=True):
        with atomic_write(target / path.name) as temporary:
            shutil.copyfile(path, temporary)
    shutil.rmtree(new, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
