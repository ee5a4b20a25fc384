"""Samples of a pack by number: one or two reads of a shard each. What a sample's JSON names as media are members of the sample;
nothing outside of the pack is opened."""

import hashlib
import itertools
import os
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from datamodules.lazy_rows import Row, RowSource
from datamodules.media import FileSpan
from datamodules.packs.index import COLUMNS, INDEX, check_shards, read_index
from datamodules.packs.media_slots import media_slots
from datamodules.packs.tar import BLOCK, read_header
from datamodules.row_json import load_row

READ_AHEAD = 4096  # bytes: all headers and the JSON of most samples
BELONGS = f"{INDEX} belongs to another pack"
OPEN_SHARDS = 64


class Pack(RowSource):
    """The rows of a pack, their media as `FileSpan`s of its shards.

    Raises ValueError or FileNotFoundError where the pack is not whole, or its index is that of another.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.index, self.shards = read_index(self.folder)
        check_shards(self.folder, self.shards)
        content = (self.folder / INDEX).read_bytes()
        self.identity = f"{self.folder.name[:80]}-{hashlib.blake2b(content, digest_size=12).hexdigest()}"
        self.shape: str = self.index["shape"]
        self.splits: list[str] = self.index["splits"]
        self.first = list(itertools.accumulate((shard.samples for shard in self.shards), initial=0))
        self._open()

    def _open(self) -> None:
        arrays = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in COLUMNS}
        for name, values in arrays.items():
            if values.shape != (self.first[-1],) or values.dtype.str != COLUMNS[name]:
                found = f"{len(values)} samples, {self.first[-1]} in {self.folder / INDEX}"
                raise ValueError(f"{self.folder / name}.npy belongs to another pack: {found}")
        self.offsets = np.asarray(arrays.pop("offsets"))
        self.columns = arrays
        self._files: dict[int, BinaryIO] = {}
        self._block = -1, 0, b""  # what was read last: (shard, offset, bytes)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is open or memory-mapped, which would be copied."""
        gone = ("offsets", "columns", "_files", "_block")
        return {name: value for name, value in vars(self).items() if name not in gone}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def __len__(self) -> int:
        return self.first[-1]

    def read(self, index: int) -> Row:
        number = bisect_right(self.first, index) - 1
        shard, start = self.shards[number], int(self.offsets[index])
        end = int(self.offsets[index + 1]) if index + 1 < self.first[number + 1] else shard.data_end
        path, key = f"{self.folder}/{shard.name}", f"{index:09d}"
        line, media = b"", {}
        for name, offset, size in self._members(number, start, end):
            if not name.startswith(f"{key}."):
                raise ValueError(f"{path}: at {offset} is {name!r} instead of sample {key}: {BELONGS}")
            if name == f"{key}.json":
                line = self._read(number, offset, size)
            else:
                media[name] = FileSpan(path, offset, size, name)
        if not line:
            raise ValueError(f"{path}: at {start} is no sample {key}: {BELONGS}")
        try:
            row = load_row(line)
            for holder, slot in media_slots(row, self.shape):
                holder[slot] = media[holder[slot]]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: sample {key} is damaged ({type(error).__name__}: {error})") from error
        return row

    def _members(self, shard: int, start: int, end: int) -> Iterator[tuple[str, int, int]]:
        """(name, offset, bytes) of the members of a sample."""
        while start < end:
            found = read_header(self._read(shard, start, BLOCK))
            if found is None or start + BLOCK + found[1] > end:
                path = self.folder / self.shards[shard].name
                raise ValueError(f"{path}: at {start} is no member of a tar file: it is damaged, or {BELONGS}")
            name, size = found
            yield name, start + BLOCK, size
            start += BLOCK + size + -size % BLOCK

    def _read(self, shard: int, offset: int, size: int) -> bytes:
        first, block = self._block[1:] if self._block[0] == shard else (0, b"")
        if first <= offset and offset + size <= first + len(block):
            return block[offset - first : offset - first + size]
        if shard not in self._files:
            while len(self._files) >= OPEN_SHARDS:
                self._files.pop(next(iter(self._files))).close()
            self._files[shard] = (self.folder / self.shards[shard].name).open("rb", buffering=0)
        block = os.pread(self._files[shard].fileno(), max(size, READ_AHEAD), offset)
        self._block = shard, offset, block[:READ_AHEAD]
        return block[:size]
