"""Recordings by index, read once and kept in memory as long as they fit, and in a file after that.

Legend: N samples.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from datamodules.lazy_media import recorded_seconds
from datamodules.lazy_rows import LazyRows
from datamodules.manifests import Row
from datamodules.parallel_read import read_clips
from muomni.frontends.audio_io import decode_audio

FULL_SCALE = 32767  # kept as 16-bit samples


class WaveformCache:
    """Waveforms of a manifest's rows. Every file is read at once, so that a broken one is found now and not by the step that
    draws it; beyond the memory limit clips are kept in a memory-mapped file, which is gone with the process, and without a cache
    folder they are read again each time. A file that cannot be read is a clip of no samples (`read_clips`).
    Of rows that stay on the disk only the headers are read, and clips when they are drawn.

    Args:
        rows: with "audio" and "id". sample_rate: in Hz. memory_mb: megabytes to keep at most. what: the name of the data in
            messages. cache: folder of the file; None: no file.
    """

    def __init__(
        self, rows: Sequence[Row], *, sample_rate: int, memory_mb: int, what: str, cache: str | None = None
    ) -> None:
        self.rows, self.sample_rate = rows, sample_rate
        self._kept: dict[int, np.ndarray] = {}
        if isinstance(rows, LazyRows):
            self.lengths = np.rint(recorded_seconds(rows, what=what) * sample_rate).astype(np.int64)
            return
        self.lengths = np.zeros(len(rows), dtype=np.int64)
        spill = None if cache is None else _Spill(Path(cache))
        left = memory_mb * 2**20
        clips = read_clips(rows, _to_int16, sample_rate=sample_rate, empty=np.empty(0, dtype=np.int16), what=what)
        for index, clip in enumerate(clips):
            self.lengths[index] = len(clip)
            if clip.nbytes <= left:
                self._kept[index] = clip
                left -= clip.nbytes
            elif spill is not None:
                spill.add(index, clip)
        if spill is not None:
            self._kept |= spill.clips()

    def __getitem__(self, index: int) -> np.ndarray:
        """(N) float32, in [-1, 1]."""
        clip = self._kept.get(index)
        if clip is None:
            clip = _to_int16(decode_audio(self.rows[index]["audio"], self.sample_rate).waveform)
        return clip.astype(np.float32) / FULL_SCALE


class _Spill:
    """Clips in a file without a name, which the system removes with the process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ends = folder, dict[int, int]()
        self.file: Any = None

    def add(self, index: int, clip: np.ndarray) -> None:
        if self.file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 (open as long as its clips are)
        self.file.write(clip.tobytes())
        self.ends[index] = self.file.tell() // clip.itemsize

    def clips(self) -> dict[int, np.ndarray]:
        """index -> clip, memory-mapped."""
        if self.file is None:
            return {}
        self.file.flush()
        samples = np.asarray(np.memmap(self.file, dtype=np.int16, mode="r"))
        starts = [0, *self.ends.values()]
        return {index: samples[start:end] for start, (index, end) in zip(starts, self.ends.items(), strict=False)}


def _to_int16(waveform: Tensor) -> np.ndarray:
    samples = waveform.numpy()
    peak = max(1.0, float(np.abs(samples).max(initial=0.0)))  # a float file may go above 1
    return np.round(samples / peak * FULL_SCALE).astype(np.int16)
