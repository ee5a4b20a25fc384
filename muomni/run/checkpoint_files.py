"""The checkpoints in a run folder: which is the newest that is whole."""

import logging
import zipfile
from pathlib import Path

import torch

from muomni.checkpoints.safe_load import reason

log = logging.getLogger(__name__)

#: In the order in which they are tried: the later ones are used when the first turns out to be damaged.
CHECKPOINTS = ("last.ckpt", "previous.ckpt", "best.ckpt")
#: In the attributes of an entry of a zip archive.
DOS_FOLDER = 0x10


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a file, whole or not, that a run could be resumed from."""
    return any((folder / "checkpoints" / name).is_file() for name in CHECKPOINTS)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run folder; None if there is none. A damaged one is logged.

    Raises ValueError if all are damaged: whether to start again is for the user to decide.
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
            f"{folder}/checkpoints: no whole checkpoint to resume from ({', '.join(broken)} damaged); resume=never starts "
            "again in a new folder, resume=FILE resumes from another checkpoint"
        )
    return None


def damaged(path: Path) -> str | None:
    """What is wrong with a checkpoint file, in a line; None if it is whole.

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


def resume_point(folder: Path, resume: str) -> str | None:
    """The checkpoint to resume from: the one that `resume` names, or the newest whole one of the run folder; None if there is
    none. Raises ValueError for a named one that is damaged."""
    if resume not in ("auto", "never"):
        damage = damaged(Path(resume))
        if damage is not None:
            raise ValueError(f"resume={resume}: {damage} (or auto, never)")
        return resume
    found = newest_checkpoint(folder)
    if found is not None:
        log.info("resuming from %s", found)
    return None if found is None else str(found)
