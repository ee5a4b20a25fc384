"""Log-mels of a manifest's clips, computed once and kept in a file: one float16 array of all frames, written clip by clip and
memory-mapped, so that it may be larger than memory. The input of a speech encoder is prepared first
(muomni/frontends/hearing.py): levelled, without silence around it.

Legend: N frames of all clips together, M mel bins, T frames of one clip.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from datamodules.joined_arrays import write_joined
from datamodules.media import media_identity
from datamodules.parallel_read import read_clips
from muomni.checkpoints.atomic_write import atomic_write
from muomni.frontends.hearing import Hearing, HearingSpec
from muomni.frontends.mel import MelSpec


class MelCache:
    """Mels by index.

    Args:
        frames: (N, M) float16. ends: (clips) the frame after each clip's last; a clip of no frames could not be
            read.
    """

    def __init__(self, frames: np.ndarray, ends: np.ndarray) -> None:
        self.frames, self.ends = frames, ends
        self.starts = np.concatenate([[0], ends[:-1]])
        self.lengths = self.ends - self.starts

    def __getitem__(self, index: int) -> np.ndarray:
        """(T, M) float32."""
        return np.asarray(self.frames[self.starts[index] : self.ends[index]], dtype=np.float32)


def cached_mels(
    rows: Sequence[dict[str, Any]], spec: MelSpec, *, cache: str | None, what: str, hearing: HearingSpec | None = None
) -> MelCache:
    """Mels of the rows' "audio" files, from the cache folder where it has them. hearing: how they are prepared; None: whole
    and as loud as they are.

    An unreadable file is a clip of no frames (`read_clips`). what: the name of the data in messages.
    """
    if cache is None:
        clips = list(_compute(rows, spec, hearing, what))
        return MelCache(np.concatenate(clips), np.cumsum([len(mel) for mel in clips]))
    folder = Path(cache) / _key(rows, spec, hearing)
    if not (folder / "ends.npy").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "frames.npy") as temporary:
            mels = _compute(rows, spec, hearing, what)
            ends = write_joined(temporary, mels, shape=(spec.bins,), dtype=np.float16)
        with atomic_write(folder / "ends.npy") as temporary, temporary.open("wb") as file:
            np.save(file, ends)  # last: it says that both are complete
    return MelCache(np.load(folder / "frames.npy", mmap_mode="r"), np.load(folder / "ends.npy"))


def _key(rows: Sequence[dict[str, Any]], spec: MelSpec, hearing: HearingSpec | None) -> str:
    """A name that changes with the specs and with any file's `media_identity`."""
    metadata = spec.metadata() | ({} if hearing is None else {"hearing": hearing.metadata()})
    digest = hashlib.blake2b(json.dumps(metadata, sort_keys=True).encode(), digest_size=12)
    for row in rows:
        digest.update(f"{media_identity(row['audio'])}\n".encode())
    return digest.hexdigest()


def _compute(
    rows: Sequence[dict[str, Any]], spec: MelSpec, hearing: HearingSpec | None, what: str
) -> Iterator[np.ndarray]:
    """Of each clip, (T, M) float16."""
    prepare = Hearing(spec, hearing)

    def convert(waveform: Tensor) -> np.ndarray:
        return prepare(waveform).trimmed().numpy().astype(np.float16)

    empty = np.empty((0, spec.bins), dtype=np.float16)
    return read_clips(rows, convert, sample_rate=spec.sample_rate, empty=empty, what=what)
