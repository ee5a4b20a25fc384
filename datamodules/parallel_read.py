"""Reading many media files at once: by a few threads (decoding releases Python's lock), with a progress bar over many.

Legend: N samples, ... the shape of what a clip is converted to.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from torch import Tensor
from tqdm import tqdm

from datamodules.manifests import Row, report_bad
from muomni.frontends.audio_io import decode_audio

log = logging.getLogger(__name__)

#: Seconds after which a progress bar is shown.
PATIENCE = 2.0
Item = TypeVar("Item")
Result = TypeVar("Result")


def map_files(read: Callable[[Item], Result], items: Sequence[Item], *, title: str, unit: str) -> Iterator[Result]:
    """`read` of every item, in order; a progress bar where it takes over `PATIENCE` seconds."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        found = pool.map(read, items)
        yield from tqdm(found, title, len(items), leave=False, unit=unit, mininterval=1, delay=PATIENCE)


def read_clips(
    rows: Sequence[Row], convert: Callable[[Tensor], np.ndarray], *, sample_rate: int, empty: np.ndarray, what: str
) -> Iterator[np.ndarray]:
    """`convert` of the waveform (N,) of each row's "audio", in order; `empty` for a file that cannot be read. These are counted
    and reported at the end, over 1 % of them is a ValueError; what is odd about recordings is logged, a line a cause, however
    many files have it. what: the name of the data in messages."""
    bad: list[str] = []
    remarks: dict[str, list[str]] = {}

    def read(row: dict[str, Any]) -> tuple[np.ndarray, Sequence[str], str | None]:
        try:
            sound = decode_audio(row["audio"], sample_rate)
            return convert(sound.waveform), sound.remarks, None
        except ValueError as error:
            return empty, (), f"{row['id']}: {error}"

    results = map_files(read, rows, title=f"clips of {what}", unit="clip")
    for row, (clip, odd, error) in zip(rows, results, strict=True):
        for remark in odd:
            remarks.setdefault(remark, []).append(str(row["id"]))
        if error is not None:
            bad.append(error)
        yield clip
    for remark, names in sorted(remarks.items()):
        log.warning("%s: %d recordings: %s; the first: %s", what, len(names), remark, min(names))
    report_bad(bad, total=len(rows), what=what)
