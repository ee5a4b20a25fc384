"""Recordings by index, read once and kept in memory as long as they fit.

Legend: N samples.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from datamodules.manifests import Row
from datamodules.parallel_read import read_clips
from muomni.frontends.audio_io import decode_audio

FULL_SCALE = 32767  # kept as 16-bit samples


class WaveformCache:
    """Waveforms of a manifest's rows. Every file is read at once, so that a broken one is found now and not by the step that
    draws it; beyond the memory limit a clip is read again each time. A file that cannot be read is a clip of no samples
    (`read_clips`).

    Args:
        rows: with "audio" and "id". sample_rate: in Hz. memory_mb: megabytes to keep at most. what: the name of the data in
            messages.
    """

    def __init__(self, rows: Sequence[Row], *, sample_rate: int, memory_mb: int, what: str) -> None:
        self.media, self.sample_rate = [row["audio"] for row in rows], sample_rate
        self.lengths = np.zeros(len(rows), dtype=np.int64)
        self._kept: dict[int, np.ndarray] = {}
        left = memory_mb * 2**20
        clips = read_clips(rows, _to_int16, sample_rate=sample_rate, empty=np.empty(0, dtype=np.int16), what=what)
        for index, clip in enumerate(clips):
            self.lengths[index] = len(clip)
            if clip.nbytes <= left:
                self._kept[index] = clip
                left -= clip.nbytes

    def __getitem__(self, index: int) -> np.ndarray:
        """(N) float32, in [-1, 1]."""
        clip = self._kept.get(index)
        if clip is None:
            clip = _to_int16(decode_audio(self.media[index], self.sample_rate).waveform)
        return clip.astype(np.float32) / FULL_SCALE


def _to_int16(waveform: Tensor) -> np.ndarray:
    samples = waveform.numpy()
    peak = max(1.0, float(np.abs(samples).max(initial=0.0)))  # a float file may go above 1
    return np.round(samples / peak * FULL_SCALE).astype(np.int16)
