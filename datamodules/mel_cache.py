"""Log-mels of a manifest's clips, computed once and kept in a file: one float16 array of all frames,
read by memory map. What an encoder hears is prepared first (muomni/frontends/hearing.py): levelled, without silence around.

Legend: N frames of all clips together, M mel bins, T frames of one clip.
"""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from datamodules.audio_warnings import AudioWarnings
from datamodules.manifests import report_bad
from muomni.checkpoints.atomic_write import atomic_write
from muomni.frontends.audio_io import read_sound
from muomni.frontends.hearing import Hearing, HearingSpec
from muomni.frontends.mel import MelSpec

log = logging.getLogger(__name__)


class MelCache:
    """Mels by index.

    Args:
        frames: (N, M) float16. ends: (clips) the frame behind each clip's last; a clip of no frames could not be
            read.
    """

    def __init__(self, *, frames: np.ndarray, ends: np.ndarray) -> None:
        self.frames = frames
        self.ends = ends
        self.starts = np.concatenate([[0], ends[:-1]])
        self.lengths = self.ends - self.starts

    def __getitem__(self, index: int) -> np.ndarray:
        """(T, M) float32."""
        return np.asarray(self.frames[self.starts[index] : self.ends[index]], dtype=np.float32)


def cached_mels(
    rows: Sequence[dict[str, Any]], spec: MelSpec, *, cache: Path | None, what: str, hearing: HearingSpec | None = None
) -> MelCache:
    """Mels of the rows' "audio" files, from the cache folder where it has them. hearing: how they are prepared; None: whole
    and as loud as they are.

    An unreadable file leaves a clip of no frames; these are counted and reported, over 1 % of them is a ValueError.
    what: the name of the data in messages.
    """
    if cache is None:
        frames, ends = _compute(rows, spec, hearing, what)
        return MelCache(frames=frames, ends=ends)
    folder = Path(cache) / _key(rows, spec, hearing)
    if not (folder / "ends.npy").is_file():
        frames, ends = _compute(rows, spec, hearing, what)
        _write(folder, frames, ends)
    return MelCache(frames=np.load(folder / "frames.npy", mmap_mode="r"), ends=np.load(folder / "ends.npy"))


def _key(rows: Sequence[dict[str, Any]], spec: MelSpec, hearing: HearingSpec | None) -> str:
    """A name that changes with the specs and with any file's path, size, or time of change. Of its content and of its entry in
    the folder, too: an unpacked archive gives every file the time that it had when it was packed."""
    facts = spec.facts() | ({} if hearing is None else {"hearing": hearing.facts()})
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=12)
    for row in rows:
        state = os.stat(row["audio"])
        digest.update(f"{row['audio']}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ctime_ns}\n".encode())
    return digest.hexdigest()


def _compute(
    rows: Sequence[dict[str, Any]], spec: MelSpec, hearing: HearingSpec | None, what: str
) -> tuple[np.ndarray, np.ndarray]:
    hear = Hearing(spec, hearing)
    odd = AudioWarnings(what)

    def compute(row: dict[str, Any]) -> tuple[np.ndarray, str | None]:
        try:
            sound = read_sound(row["audio"], spec.sample_rate)
            odd.add(str(row["id"]), sound.remarks)
            return hear(sound.waveform).trimmed().numpy().astype(np.float16), None
        except ValueError as error:
            return np.empty((0, spec.bins), dtype=np.float16), f"{row['id']}: {error}"

    quiet = len(rows) < 500
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:  # decoding and FFT leave the lock
        results = pool.map(compute, rows)
        done = list(
            tqdm(results, f"log-mels of {what}", len(rows), leave=False, unit="clip", mininterval=1, disable=quiet)
        )
    odd.report()
    report_bad([error for _, error in done if error is not None], total=len(rows), what=what)
    return np.concatenate([mel for mel, _ in done]), np.cumsum([len(mel) for mel, _ in done])


def _write(folder: Path, frames: np.ndarray, ends: np.ndarray) -> None:
    """Write both arrays whole or not at all: `ends.npy` comes last, and says that the folder is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("frames.npy", frames), ("ends.npy", ends)):
        with atomic_write(folder / name) as temporary, temporary.open("wb") as file:
            np.save(file, array)
