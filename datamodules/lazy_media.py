"""Recordings and images of rows that stay on the disk: decoded when they are drawn, by the worker that draws them. Before,
only the recordings' headers are read, once (a pack has their lengths in its index).

Legend: N samples, T frames, M mel bins.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from datamodules.lazy_rows import LazyRows
from datamodules.media import Media
from datamodules.row_report import report_bad
from muomni.frontends.audio_io import decode_audio, duration
from muomni.frontends.hearing import Hearing, HearingSpec
from muomni.frontends.mel import MelSpec

RATE = 16_000  # Hz that a recording is decoded at to count its seconds, where the header does not say them


def seconds_of(recording: Any) -> float:
    """Seconds of a recording. Raises ValueError where it cannot be read or is empty, OSError where it is not there."""
    known = duration(recording)
    if known is None:
        known = len(decode_audio(recording, RATE).waveform) / RATE
    if known == 0:
        raise ValueError(f"{recording}: the audio file is empty: it holds no samples")
    return known


def recorded_seconds(rows: LazyRows, *, what: str) -> np.ndarray:
    """(len(rows)) float32, 0 for a recording that cannot be read; over 1 % of these is a ValueError. what: the name of the
    data in messages."""
    known = rows.known("seconds")
    seconds = rows.column("seconds", _seconds, dtype=np.float32) if known is None else np.nan_to_num(known)
    bad = np.flatnonzero(seconds == 0)
    if len(bad):
        first = rows[int(bad[0])]
        report_bad([f"{first['id']}: cannot read {first['audio']}"] * len(bad), total=len(rows), what=what)
    return seconds


def _seconds(row: dict[str, Any]) -> float:
    try:
        return seconds_of(row["audio"])
    except (ValueError, OSError):
        return 0.0


class LazyMels:
    """Mels by index, like a `MelCache`. lengths: at most so many frames, since what is silent at its ends may be cut off; 0 for a
    recording that cannot be read."""

    def __init__(self, rows: LazyRows, spec: MelSpec, hearing: HearingSpec | None, *, what: str) -> None:
        self.rows, self.spec = rows, spec
        self.prepare = Hearing(spec, hearing)
        seconds = recorded_seconds(rows, what=what)
        self.lengths = np.ceil(seconds * np.float32(spec.frame_rate)).astype(np.int32)
        if spec.kind != "log_mel":
            frames = [spec.num_frames(math.ceil(each * spec.sample_rate)) for each in seconds]
            self.lengths = np.array(frames, dtype=np.int32)

    def __getitem__(self, index: int) -> np.ndarray:
        """(T, M) float32. Raises ValueError for a recording that cannot be read or has no frame."""
        row = self.rows[index]
        mel = self.prepare(decode_audio(row["audio"], self.spec.sample_rate).waveform).trimmed()
        if not len(mel):
            raise ValueError(f"{row['audio']}: shorter than a frame")
        return mel.numpy().astype(np.float16).astype(np.float32)  # as a cache keeps it


class LazyImages(Sequence[Media]):
    """The image of each row."""

    def __init__(self, rows: LazyRows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]["image"]
