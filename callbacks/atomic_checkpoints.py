"""Atomic checkpoints: complete or absent, also after a power cut."""

import errno
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from muomni.checkpoints.atomic_write import atomic_write
from muomni.run.checkpoint_files import CHECKPOINTS

LAST, PREVIOUS = CHECKPOINTS[:2]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own way copies from the system's temporary folder and does not flush. The checkpoint that `last.ckpt`
    replaces is kept as `previous.ckpt`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save to `path`; the old file stays until the new one is complete.

        Raises RuntimeError, in one line, where the disk is full or the folder cannot be written.
        """
        target = Path(path)
        previous = PREVIOUS if target.name == LAST else None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(target, durable=True, previous=previous) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)  # into a file object: given a path, torch hides the error of the disk
        except (OSError, RuntimeError) as error:
            raise RuntimeError(_explain(_cause(error), target)) from error


def _cause(error: BaseException) -> OSError:
    """The error of the disk, on top of which torch's writer raises one of its own."""
    link: BaseException | None = error
    while link is not None and not isinstance(link, OSError):
        link = link.__context__
    if link is None:
        raise error
    return link


def _explain(error: OSError, target: Path) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "free some space" if full else "make the folder writable"
    kept = [name for name in CHECKPOINTS if os.path.exists(target.with_name(name))]
    rest = f"the same command resumes from {kept[0]}" if kept else "no checkpoint was written yet"
    return f"cannot save {target}: {error.strerror}; {remedy}, {rest}"
