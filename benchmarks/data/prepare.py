"""The data of the benchmark: rows of text as a manifest with its index, and as a pack, whose tar files webdataset reads, too.

Written by numpy, a million rows in seconds; the bytes are those that `python -m datamodules.pack` and the first reading of a
large manifest write (tests/unit/benchmarks/test_data.py). How long these take is measured with fewer rows.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from datamodules.formats import Reading
from datamodules.packs.index import COLUMNS, FORMAT, INDEX, VERSION, Shard, digest_of_ends
from datamodules.packs.tar import BLOCK, END, header
from datamodules.row_file import index_folder

WORDS = b"that with have this from they were will what when your said each time them some than look".split()
WORDS_A_ROW = 16
ROW = '{"id":"row-%09d","text":"%s"}'
AT_ONCE = 1 << 16  # rows
SAMPLE = 2 * BLOCK  # bytes of one in a shard


def write_manifest(path: Path, rows: int) -> None:
    """A row a line."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file, tqdm(total=rows, desc=f"writing {path.name}", unit="row", mininterval=1) as bar:
        for _, lines in _lines(rows):
            file.write(np.pad(lines, ((0, 0), (0, 1)), constant_values=ord("\n")).tobytes())
            bar.update(len(lines))
    partial.rename(path)


def write_pack(folder: Path, rows: int, *, shard_samples: int = 1 << 18) -> None:
    """The same rows as a pack. shard_samples: a power of two."""
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[Shard] = []
    at_once = min(AT_ONCE, shard_samples)
    blocks = _lines(rows, at_once)
    with tqdm(total=rows, desc=f"writing {folder.name}", unit="row", mininterval=1) as bar:
        for first in range(0, rows, shard_samples):
            count = min(shard_samples, rows - first)
            path, digest = folder / f"{len(shards):05d}.tar", hashlib.blake2b(digest_size=16)
            with path.open("wb") as file:
                for _ in range(-(-count // at_once)):
                    samples = _samples(*next(blocks)).tobytes()
                    file.write(samples)
                    digest.update(samples)
                    bar.update(len(samples) // SAMPLE)
                file.write(END)
                digest.update(END)
            shards.append(Shard(path.name, path.stat().st_size, count, digest.hexdigest(), digest_of_ends(path)))
    values = {
        "offsets": np.arange(rows) % shard_samples * SAMPLE,
        "split": np.full(rows, -1),
        "seconds": np.full(rows, np.nan),
    }
    for name, type_ in COLUMNS.items():
        np.save(folder / f"{name}.npy", values[name].astype(type_))
    index = {"format": FORMAT, "version": VERSION, "shape": "text", "samples": rows, "splits": []}
    (folder / INDEX).write_text(json.dumps(index | {"shards": [asdict(shard) for shard in shards]}, indent=1))


def write_index(manifest: Path, rows: int, cache: Path) -> None:
    """The index of the manifest: its lines are those of the index already."""
    where = manifest.parent.absolute()
    folder = index_folder(cache, manifest, shape="text", root=where, reading=repr(Reading()))
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


def _lines(rows: int, at_once: int = AT_ONCE) -> Iterator[tuple[int, np.ndarray]]:
    """(number of the first, their bytes (n, L) uint8) of runs of rows."""
    rng = np.random.default_rng(0)
    words = np.array([[*word, *b" "] for word in WORDS], dtype=np.uint8)
    before, between = (ROW % (0, "")).encode().split(b"000000000")
    for first in range(0, rows, at_once):
        count = min(at_once, rows - first)
        text = words[rng.integers(0, len(words), (count, WORDS_A_ROW))].reshape(count, -1)[:, :-1]
        pieces = (
            _repeat(before, count),
            _digits(first, count),
            _repeat(between[:-2], count),
            text,
            _repeat(between[-2:], count),
        )
        yield first, np.concatenate(pieces, axis=1)


def _samples(first: int, lines: np.ndarray) -> np.ndarray:
    """Members NUMBER.json of a tar file, (n, SAMPLE) uint8."""
    count, length = lines.shape
    samples = np.zeros((count, SAMPLE), dtype=np.uint8)
    samples[:, :BLOCK] = _repeat(header("000000000.json", length), count)
    samples[:, :9] = _digits(first, count)
    samples[:, 148:156] = ord(" ")
    checksums = samples[:, :BLOCK].sum(axis=1, dtype=np.int64)
    octal = (checksums[:, None] >> np.arange(15, -1, -3)) & 7
    samples[:, 148:154], samples[:, 154] = octal + ord("0"), 0
    samples[:, BLOCK : BLOCK + length] = lines
    return samples


def _repeat(text: bytes, count: int) -> np.ndarray:
    return np.broadcast_to(np.frombuffer(text, dtype=np.uint8), (count, len(text)))


def _digits(first: int, count: int) -> np.ndarray:
    """Nine digits of each number, (count, 9)."""
    numbers = np.arange(first, first + count)[:, None] // 10 ** np.arange(8, -1, -1)
    return (numbers % 10 + ord("0")).astype(np.uint8)
