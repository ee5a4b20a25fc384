"""Checkpoints that are whole or not there: written beside the target, flushed to the disk, then renamed."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from muomni.run.run_folder import CHECKPOINTS

LAST, PREVIOUS = CHECKPOINTS[:2]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own way of saving copies from the system's temporary folder and does not flush.

    The checkpoint before `last.ckpt` is kept as `previous.ckpt`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save to `path`; what stood there stays until the new one is whole.

        Raises RuntimeError, in one line, where the disk is full or the folder cannot be written.
        """
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            if target.name == LAST and target.exists():
                os.replace(target, target.with_name(PREVIOUS))
            os.replace(temporary, target)
            _flush_folder(target.parent)
        except (OSError, RuntimeError) as error:
            raise RuntimeError(_explain(_cause(error), target)) from error
        finally:
            with suppress(OSError):
                temporary.unlink()


def _flush_folder(folder: Path) -> None:
    """A rename is safe from a power cut once the folder itself is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cause(error: BaseException) -> OSError:
    """What the disk said: torch's writer raises an error of its own on top of it."""
    link: BaseException | None = error
    while link is not None and not isinstance(link, OSError):
        link = link.__context__
    if link is None:
        raise error
    return link


def _explain(error: OSError, target: Path) -> str:
    """What to do about it."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "free some space" if full else "make the folder writable"
    kept = [name for name in CHECKPOINTS if os.path.exists(target.with_name(name))]
    rest = f"the same command goes on from {kept[0]}" if kept else "no checkpoint was written yet"
    return f"cannot save {target}: {error.strerror}; {remedy}, {rest}"
