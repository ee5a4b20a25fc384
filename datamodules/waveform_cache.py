"""Recordings by index, read once and kept in memory as long as they fit.

Legend: N samples.
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tqdm import tqdm

from datamodules.audio_warnings import AudioWarnings
from datamodules.manifests import report_bad
from muomni.frontends.audio_io import read_sound

log = logging.getLogger(__name__)

FULL_SCALE = 32767  # kept as 16-bit samples


class WaveformCache:
    """Waveforms of a manifest's rows. Every file is read at once, so that a broken one is found now and not by the step that
    draws it; beyond the memory limit a clip is read again each time.

    A file that cannot be read is a clip of no samples; these are counted and reported, over 1 % of them is a ValueError.

    Args:
        rows: with "audio" and "id". sample_rate: in Hz. memory_mb: most megabytes to keep. what: the name of the data in
            messages.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], *, sample_rate: int, memory_mb: int, what: str) -> None:
        self.paths, self.sample_rate = [str(row["audio"]) for row in rows], sample_rate
        self.lengths = np.zeros(len(rows), dtype=np.int64)
        self._kept: list[np.ndarray | None] = [None] * len(rows)
        room = memory_mb * 2**20
        bad = []
        odd = AudioWarnings(what)
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:  # decoding leaves the lock
            results = pool.map(self._try, self.paths)
            quiet = len(rows) < 500
            shown = tqdm(
                results, f"sounds of {what}", len(rows), leave=False, unit="clip", mininterval=1, disable=quiet
            )
            for index, (clip, remarks, fault) in enumerate(shown):
                odd.add(str(rows[index]["id"]), remarks)
                if fault is not None:
                    bad.append(f"{rows[index]['id']}: {fault}")
                self.lengths[index] = len(clip)
                if clip.nbytes <= room:
                    self._kept[index] = clip
                    room -= clip.nbytes
        odd.report()
        report_bad(bad, total=len(rows), what=what)

    def _try(self, path: str) -> tuple[np.ndarray, tuple[str, ...], ValueError | None]:
        try:
            return *self._read(path), None
        except ValueError as error:
            return np.empty(0, dtype=np.int16), (), error

    def _read(self, path: str) -> tuple[np.ndarray, tuple[str, ...]]:
        sound = read_sound(path, self.sample_rate)
        waveform = sound.waveform.numpy()
        peak = max(1.0, float(np.abs(waveform).max(initial=0.0)))  # a float file may go above 1
        return np.round(waveform / peak * FULL_SCALE).astype(np.int16), sound.remarks

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        """(N) float32, in [-1, 1]."""
        kept = self._kept[index]
        clip = self._read(self.paths[index])[0] if kept is None else kept
        return clip.astype(np.float32) / FULL_SCALE
