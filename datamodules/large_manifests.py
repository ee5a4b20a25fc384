"""Manifests and packs whose rows are not kept in a list: they are read from an index when they are needed (lazy_rows.py)."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from datamodules.formats import SHARDS, BadRow, Reading, Row, entry_place, read_entries
from datamodules.formats.text_file import inner_suffix
from datamodules.lazy_rows import LazyRows, cache_folder
from datamodules.packs.reader import Pack
from datamodules.row_file import RowFile, index_folder, write_index
from datamodules.row_report import report_repeated, report_split

LARGE_FILE = 256 << 20  # bytes of a manifest from which its rows are indexed
LARGE_PACK = 1_000_000  # samples of a pack from which they are not read into a list
WITH_MEDIA = (".parquet", ".arrow", ".npz")  # unless they hold text
SAMPLE = 1 << 20  # bytes from which the number of lines is estimated

Check = Callable[[Row, Path], None]


def is_large(path: Path, *, shape: str | None = None) -> bool:
    """Whether the rows of a manifest are indexed instead of kept in a list: a large file of rows, which holds no media itself, or
    a folder with much text. shape: of the rows, where it is known."""
    if path.is_dir():
        files = (each for each in path.rglob("*") if inner_suffix(each) in SHARDS) if shape == "text" else ()
        return sum(each.stat().st_size for each in files) >= LARGE_FILE
    media = shape != "text" and inner_suffix(path) in WITH_MEDIA
    return path.is_file() and path.stat().st_size >= LARGE_FILE and not media


def refuse_reading(path: Path, reading: Reading) -> None:
    """Raise ValueError where a pack is to be read in another way than it was packed: its rows stay as they are."""
    usual = Reading()
    for name in ("format", "columns", "class_caption"):
        if getattr(reading, name) != getattr(usual, name):
            what = f"data.{name}={getattr(reading, name)}"
            raise ValueError(f"{path}: {what} changes nothing in a pack: leave it out, or pack the data with {name}=")
    if reading.split_shares and not Pack(path).splits:
        raise ValueError(
            f"{path}: a pack without splits, which data.split_shares cannot give it: data.val=PATH names another"
        )


def pack_rows(path: Path, *, shape: str, split: str | None, phase: str | None, cache: str | None) -> Sequence[Row]:
    """The rows of a pack. Raises ValueError for a pack of another shape, and as `read_manifest` does."""
    pack = _pack_of(path, shape)
    chosen, others = pack.of_split(split, phase)
    rows = LazyRows(pack, cache=cache_folder(cache), chosen=chosen)
    report_split(len(rows), [], others, split=split, phase=phase, what=str(path))
    return list(rows) if len(pack) < LARGE_PACK else rows


def pack_entries(path: Path, *, shape: str) -> Iterator[tuple[int, Row]]:
    """(number, from 1; row) of every sample of a pack. Errors as of `pack_rows`."""
    pack = _pack_of(path, shape)
    for index in range(len(pack)):
        yield index + 1, pack.read(index)


def _pack_of(path: Path, shape: str) -> Pack:
    pack = Pack(path)
    if pack.shape != shape:
        raise ValueError(f"{path}: a pack of shape {pack.shape}, and {shape} is needed here")
    return pack


def indexed_rows(
    path: Path,
    *,
    shape: str,
    split: str | None,
    root: Path,
    reading: Reading,
    phase: str | None,
    cache: str | None,
    check: Check,
) -> Sequence[Row]:
    """The rows of a large manifest, indexed once. check: of the shape; it may change a row. Errors as of `read_manifest`."""
    phase = phase if path.is_dir() or reading.split_shares else None
    folder = index_folder(cache_folder(cache), path, shape=shape, root=root, reading=reading.identity())
    if not (folder / "about.json").is_file():
        entries = _checked(path, shape=shape, root=root, reading=reading, check=check)
        write_index(folder, entries, path=path, name_of=lambda number: entry_place(path, number))
    source = RowFile(folder, path=path, split=split)
    chosen, others = source.of_split(split, phase)
    rows = LazyRows(source, cache=cache_folder(cache), chosen=chosen)
    report_split(len(rows), source.bad(), others, split=split, phase=phase, what=str(path))
    twice = source.repeated if chosen is None else np.intersect1d(source.repeated, chosen, assume_unique=True)
    if len(twice):
        report_repeated(len(twice), len(rows), first=str(source.read(int(twice[0]))["id"]), what=str(path))
    return rows


def _checked(
    path: Path, *, shape: str, root: Path, reading: Reading, check: Check
) -> Iterator[tuple[int | str, Row | None, BadRow | None]]:
    """Every entry, with a progress bar."""
    bar = tqdm(
        read_entries(path, shape=shape, reading=reading),
        f"indexing {path} (once)",
        _estimate(path),
        unit="row",
        mininterval=1,
    )
    for number, entry in bar:
        if isinstance(entry, BadRow):
            yield number, None, entry
            continue
        try:
            check(entry, root)
            yield number, entry, None
        except BadRow as error:
            yield number, entry, error


def _estimate(path: Path) -> int | None:
    """Lines of a file, about; None where it is none of lines."""
    if path.is_dir() or inner_suffix(path) in WITH_MEDIA:
        return None
    with path.open("rb") as file:
        lines = file.read(SAMPLE).count(b"\n")
    return max(1, lines * path.stat().st_size // SAMPLE)
