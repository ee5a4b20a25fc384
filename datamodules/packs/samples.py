"""Rows of a manifest as samples of a pack: their media are read and tried, by a few threads."""

import copy
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePath

from datamodules.lazy_rows import Row
from datamodules.media import Media, open_media
from datamodules.packs.media_slots import KEYS, media_slots
from datamodules.row_json import dump_row
from muomni.frontends.audio_io import inspect_audio
from muomni.frontends.image import check_image
from muomni.frontends.memory_file import SUFFIX, MemoryFile

AT_ONCE = 64  # rows whose media are read ahead
THREADS = 8


@dataclass
class Sample:
    """row: as the manifest has it. media: medium -> (suffix, bytes). seconds: of its recordings by their headers, NaN for none.
    error: what is wrong, None where nothing is."""

    row: Row
    shape: str
    media: dict[Media, tuple[str, bytes]] = field(default_factory=dict)
    seconds: float = float("nan")
    error: str | None = None

    @property
    def split(self) -> str | None:
        """Its row's, where that is a text."""
        split = self.row.get("split")
        return split if isinstance(split, str) else None

    def members(self, number: int) -> Iterator[tuple[str, bytes]]:
        """(name, content): the row as JSON first, in which media are the names of the others."""
        key = f"{number:09d}"
        single = len(self.media) == 1
        names = {
            medium: f"{key}{suffix}" if single else f"{key}.{index}{suffix}"
            for index, (medium, (suffix, _)) in enumerate(self.media.items())
        }
        row = copy.deepcopy(self.row) if names else self.row
        for holder, slot in media_slots(row, self.shape):
            holder[slot] = names[holder[slot]]
        yield f"{key}.json", dump_row(row)
        for medium, (_, content) in self.media.items():
            yield names[medium], content


def read_samples(rows: Sequence[Row], start: int, *, shape: str) -> Iterator[Sample]:
    """The samples of the rows from `start` on, in order."""
    if shape not in (*KEYS, "sft"):
        yield from (Sample(rows[index], shape) for index in range(start, len(rows)))
        return
    with ThreadPoolExecutor(max_workers=min(THREADS, os.cpu_count() or 1)) as pool:
        for first in range(start, len(rows), AT_ONCE):
            yield from pool.map(lambda index: _read(rows[index], shape), range(first, min(first + AT_ONCE, len(rows))))


def _read(row: Row, shape: str) -> Sample:
    sample, seconds = Sample(row, shape), list[float]()
    try:
        for holder, slot in media_slots(row, shape):
            medium = holder[slot]
            with open_media(medium) as file:
                content = file.read()
            name = medium if isinstance(medium, str) else medium.name
            opened = MemoryFile(content, name=name)
            if slot == "image":
                check_image(opened)
            else:
                facts = inspect_audio(opened)  # the whole of it: what breaks, or is no sound, breaks here
                seconds.append(facts.seconds if facts.promised is None else facts.promised)
            suffix = PurePath(medium).suffix.lower() if isinstance(medium, str) else medium.suffix
            sample.media[medium] = (suffix if SUFFIX.fullmatch(suffix) and suffix != ".json" else ".bin", content)
    except (ValueError, OSError) as error:
        sample.error = f"{row['id']}: {error}"
    sample.seconds = sum(seconds) if seconds else float("nan")
    return sample
