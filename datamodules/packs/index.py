"""The index of a pack: which samples are where in its shards, and that index and shards belong together.

index.json      shape, shards (name, bytes, samples, digest of all bytes and of both ends), names of the splits; written last
offsets.npy     where each sample begins in its shard, int64
split.npy       index of its split's name, -1 for none, int32
seconds.npy     of its recordings by their headers, float32; NaN where it has none, or one that does not say
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.packs.tar import END

INDEX = "index.json"
FORMAT, VERSION = "muomni-pack", 1
COLUMNS = {"offsets": "<i8", "split": "<i4", "seconds": "<f4"}
ENDS = 1 << 16  # bytes of each end of a shard that are compared whenever a pack is opened


@dataclass(frozen=True)
class Shard:
    """name: of the file in the pack's folder. bytes, samples: in it. digest: of all bytes. ends: of its first and last ones."""

    name: str
    bytes: int
    samples: int
    digest: str
    ends: str

    @property
    def data_end(self) -> int:
        """Where the last sample ends."""
        return self.bytes - len(END)


def is_pack(path: Path | str) -> bool:
    """Whether a path is a folder with the index of a pack, or one that is being packed."""
    path = Path(path)
    if not path.is_dir():
        return False
    if (path / "packing").is_dir() and not (path / INDEX).is_file():
        raise ValueError(f"{path}: this pack is not finished: the same python -m datamodules.pack command continues it")
    return (path / INDEX).is_file() and b'"muomni-pack"' in _beginning(path / INDEX)


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(200)


def digest_of_ends(path: Path) -> str:
    """Of a file's first and last `ENDS` bytes."""
    state = hashlib.blake2b(digest_size=8)
    with path.open("rb") as file:
        state.update(file.read(ENDS))
        file.seek(max(0, os.fstat(file.fileno()).st_size - ENDS))
        state.update(file.read(ENDS))
    return state.hexdigest()


def read_index(folder: Path) -> tuple[dict[str, Any], list[Shard]]:
    """What index.json says. Raises ValueError where it is damaged, of a later version, or names files outside of the folder."""
    path = folder / INDEX
    try:
        index = json.loads(path.read_text())
        shards = [Shard(**each) for each in index["shards"]]
        complete = {"shape", "splits", "version"} <= set(index)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: damaged ({error}); pack the data again") from error
    if not complete or index["version"] > VERSION:
        raise ValueError(f"{path}: of version {index.get('version')}; this program reads version {VERSION}")
    for shard in shards:
        if not isinstance(shard.name, str) or Path(shard.name).name != shard.name or shard.name in ("", ".", ".."):
            raise ValueError(f"{path}: the shard {shard.name!r} is not a file of this folder")
    return index, shards


def check_shards(folder: Path, shards: list[Shard]) -> None:
    """Raise ValueError or FileNotFoundError, naming the file, for a shard that is missing, cut off, or another one."""
    for shard in shards:
        path = folder / shard.name
        if not path.is_file():
            raise FileNotFoundError(f"{path}: this shard of the pack is missing; its index names it")
        size = path.stat().st_size
        if size < shard.bytes:
            raise ValueError(f"{path}: cut off: {size} bytes, {shard.bytes} by the index; copy it again")
        if size > shard.bytes or digest_of_ends(path) != shard.ends:
            raise ValueError(f"{path}: the index {folder / INDEX} belongs to another pack; copy both together")
