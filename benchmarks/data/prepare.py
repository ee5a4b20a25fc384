"""The data of the benchmark: rows as a manifest with its index, and as a pack, whose tar files webdataset reads, too.

Written by numpy, a million rows in seconds; the bytes are those that `python -m datamodules.pack` and the first reading of a
large manifest write (tests/unit/benchmarks/test_data.py). How long these take is measured with fewer rows.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.data.shapes import MEDIUM, NUMBER, TEXT, RowShape
from datamodules.formats import Reading
from datamodules.packs.index import COLUMNS, FORMAT, INDEX, VERSION, Shard, digest_of_ends
from datamodules.packs.tar import BLOCK, END, header
from datamodules.row_file import index_folder

WORDS = b"that with have this from they were will what when your said each time them some than look".split()
WORDS_A_ROW = 16
AT_ONCE = 1 << 16  # rows


def write_manifest(path: Path, rows: int, shape: RowShape) -> None:
    """A row a line; the medium is in the manifest's folder."""
    partial = path.with_suffix(".partial")
    medium = shape.write_medium(path.parent)
    with partial.open("wb") as file, tqdm(total=rows, desc=f"writing {path.name}", unit="row", mininterval=1) as bar:
        for _, lines in _lines(shape.template.replace(MEDIUM, medium), rows):
            file.write(np.pad(lines, ((0, 0), (0, 1)), constant_values=ord("\n")).tobytes())
            bar.update(len(lines))
    partial.rename(path)


def write_pack(folder: Path, rows: int, shape: RowShape, *, shard_samples: int = 1 << 18) -> None:
    """The same rows as a pack. shard_samples: a power of two."""
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[Shard] = []
    at_once, size = min(AT_ONCE, shard_samples), 0
    blocks = _lines(shape.template.replace(MEDIUM, f"{NUMBER}{shape.suffix}"), rows, at_once)
    with tqdm(total=rows, desc=f"writing {folder.name}", unit="row", mininterval=1) as bar:
        for first in range(0, rows, shard_samples):
            count = min(shard_samples, rows - first)
            path, digest = folder / f"{len(shards):05d}.tar", hashlib.blake2b(digest_size=16)
            with path.open("wb") as file:
                for _ in range(-(-count // at_once)):
                    samples = _samples(*next(blocks), shape)
                    size = samples.shape[1]
                    file.write(samples.tobytes())
                    digest.update(samples.tobytes())
                    bar.update(len(samples))
                file.write(END)
                digest.update(END)
            shards.append(Shard(path.name, path.stat().st_size, count, digest.hexdigest(), digest_of_ends(path)))
    values = {
        "offsets": np.arange(rows) % shard_samples * size,
        "split": np.full(rows, -1),
        "seconds": np.full(rows, shape.seconds),
    }
    for name, type_ in COLUMNS.items():
        np.save(folder / f"{name}.npy", values[name].astype(type_))
    index = {"format": FORMAT, "version": VERSION, "shape": shape.name, "samples": rows, "splits": []}
    (folder / INDEX).write_text(json.dumps(index | {"shards": [asdict(shard) for shard in shards]}, indent=1))


def write_index(manifest: Path, rows: int, cache: Path, shape: RowShape) -> None:
    """The index of the manifest: its lines are those of the index already."""
    where = manifest.parent.absolute()
    folder = index_folder(cache, manifest, shape=shape.name, root=where, reading=repr(Reading()))
    folder.mkdir(parents=True, exist_ok=True)
    length = manifest.stat().st_size // rows
    columns: dict[str, np.ndarray] = {
        "offsets": np.arange(rows + 1) * length,
        "numbers": np.arange(1, rows + 1),
        "splits": np.full(rows, -1, dtype=np.int32),
        "repeated": np.empty(0, dtype=np.int64),
        "repeated_in_split": np.empty(0, dtype=np.int64),
    }
    for name, values in columns.items():
        np.save(folder / f"{name}.npy", values)
    (folder / "rows.jsonl").unlink(missing_ok=True)
    (folder / "rows.jsonl").symlink_to(manifest.absolute())
    none = {"rows": 0, "bad": 0, "first": ""}
    about = {"splits": [], "tallies": [[None, none | {"rows": rows}]], "unreadable": none}
    (folder / "about.json").write_text(json.dumps(about))


def _lines(template: str, rows: int, at_once: int = AT_ONCE) -> Iterator[tuple[int, np.ndarray]]:
    """(number of the first, their bytes (n, L) uint8) of runs of rows."""
    rng = np.random.default_rng(0)
    words = np.array([[*word, *b" "] for word in WORDS], dtype=np.uint8)
    pieces = [piece for piece in re.split(f"({re.escape(NUMBER)}|{re.escape(TEXT)})", template) if piece]
    for first in range(0, rows, at_once):
        count = min(at_once, rows - first)
        text = words[rng.integers(0, len(words), (count, WORDS_A_ROW))].reshape(count, -1)[:, :-1]
        filled = {NUMBER: _digits(first, count), TEXT: text}
        columns = [filled[each] if each in filled else _repeat(each.encode(), count) for each in pieces]
        yield first, np.concatenate(columns, axis=1)


def _samples(first: int, lines: np.ndarray, shape: RowShape) -> np.ndarray:
    """The members NUMBER.json and NUMBER.SUFFIX of a tar file, (n, bytes of a sample) uint8."""
    members = [_members(first, lines, ".json")]
    if shape.suffix:
        members.append(_members(first, _repeat(shape.content, len(lines)), shape.suffix))
    return np.concatenate(members, axis=1)


def _members(first: int, contents: np.ndarray, suffix: str) -> np.ndarray:
    """contents (n, L) as members of a tar file, (n, bytes of one) uint8."""
    count, length = contents.shape
    members = np.zeros((count, BLOCK + length + -length % BLOCK), dtype=np.uint8)
    members[:, :BLOCK] = _repeat(header(f"000000000{suffix}", length), count)
    members[:, :9] = _digits(first, count)
    members[:, 148:156] = ord(" ")
    checksums = members[:, :BLOCK].sum(axis=1, dtype=np.int64)
    octal = (checksums[:, None] >> np.arange(15, -1, -3)) & 7
    members[:, 148:154], members[:, 154] = octal + ord("0"), 0
    members[:, BLOCK : BLOCK + length] = contents
    return members


def _repeat(text: bytes, count: int) -> np.ndarray:
    return np.broadcast_to(np.frombuffer(text, dtype=np.uint8), (count, len(text)))


def _digits(first: int, count: int) -> np.ndarray:
    """Nine digits of each number, (count, 9)."""
    numbers = np.arange(first, first + count)[:, None] // 10 ** np.arange(8, -1, -1)
    return (numbers % 10 + ord("0")).astype(np.uint8)
