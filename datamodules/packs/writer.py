"""Writing a pack: shard by shard, each whole or not there, so that a killed packing resumes after its last finished shard.

    FOLDER/00000.tar, 00001.tar, ..     samples 000000000.json, 000000000.flac, 000000001.json, .. in the order of the manifest
    FOLDER/packing/                     until the end: what is packed, and of every finished shard its part of the index

The same rows become the same bytes, whenever and however often the packing was interrupted.
"""

import fcntl
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from datamodules.lazy_rows import Row
from datamodules.manifests import report_bad
from datamodules.packs.index import COLUMNS, FORMAT, INDEX, VERSION, Shard, digest_of_ends, read_index
from datamodules.packs.samples import read_samples
from datamodules.packs.tar import END, header, padding
from muomni.checkpoints.atomic_write import atomic_write, remove_partials, write_text

log = logging.getLogger(__name__)

PACKING = "packing"


@dataclass
class Progress:
    """What is finished: of the manifest's rows, and of the pack's samples and shards; rows that could not be packed."""

    rows: int = 0
    samples: int = 0
    shards: list[Shard] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)


def write_pack(rows: Sequence[Row], folder: Path, *, shape: str, shard_bytes: int, source: str, what: str) -> int:
    """Write rows with their media as a pack, or finish one that was begun -> number of samples.

    shard_bytes: a shard that reaches them is closed. source: text that tells these rows from others. what: the name of the
    data in messages. A medium that cannot be read leaves its row out; over 1 % of them is a ValueError.
    Raises ValueError where the folder holds something else.
    """
    settings = {"shape": shape, "shard_bytes": shard_bytes, "source": source, "rows": len(rows), "version": VERSION}
    if _is_finished(folder, settings):
        return sum(shard.samples for shard in read_index(folder)[1])
    with _claimed(folder, settings):
        done = _finished_shards(folder)
        with tqdm(total=len(rows), initial=done.rows, desc=f"packing {what}", unit="row", mininterval=1) as bar:
            while done.rows < len(rows):
                _write_shard(rows, folder, done, shape=shape, shard_bytes=shard_bytes, bar=bar)
        report_bad(done.bad, total=len(rows), what=what)
        _write_index(folder, done, settings)
        shutil.rmtree(folder / PACKING)
    return done.samples


def _is_finished(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether this very pack is there."""
    if not (folder / INDEX).is_file():
        return False
    index, _ = read_index(folder)
    if index.get("settings") != settings:
        raise ValueError(
            f"{folder}: holds a pack of other data or other options; remove it, or give another out=FOLDER"
        )
    shutil.rmtree(folder / PACKING, ignore_errors=True)  # killed between the two
    return True


@contextmanager
def _claimed(folder: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """The folder, new or of a killed packing of the same rows, held by this process alone."""
    known = folder / PACKING / "settings.json"
    if folder.is_dir() and any(folder.iterdir()) and not (folder / PACKING).is_dir():
        raise ValueError(f"{folder}: holds files and is no pack; give another out=FOLDER")
    (folder / PACKING).mkdir(parents=True, exist_ok=True)
    with (folder / PACKING / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(f"{folder}: another process is packing into it") from error
        if known.is_file() and json.loads(known.read_text()) != settings:
            raise ValueError(
                f"{folder}: holds a begun pack of other data or other options; remove it, or give another out=FOLDER"
            )
        write_text(known, json.dumps(settings))
        yield


def _finished_shards(folder: Path) -> Progress:
    """The shards of an earlier packing whose notes are there, in their order up to the first that is not whole."""
    done = Progress()
    while (note := folder / PACKING / f"{len(done.shards):05d}.json").is_file():
        known = json.loads(note.read_text())
        shard = Shard(**known["shard"])
        path = folder / shard.name
        if not path.is_file() or path.stat().st_size != shard.bytes or digest_of_ends(path) != shard.ends:
            break
        done.rows, done.samples = known["rows"], done.samples + shard.samples
        done.shards.append(shard)
        done.bad += known["bad"]
    if done.shards:
        log.info("%s: %d finished shards (%d samples) are kept", folder, len(done.shards), done.samples)
    return done


def _write_shard(
    rows: Sequence[Row], folder: Path, done: Progress, *, shape: str, shard_bytes: int, bar: "tqdm[Any]"
) -> None:
    """The next shard and its note, which says that it is finished."""
    name = f"{len(done.shards):05d}"
    path, size = folder / f"{name}.tar", 0
    digest = hashlib.blake2b(digest_size=16)
    columns: dict[str, list[Any]] = {column: [] for column in COLUMNS}
    bad: list[str] = []
    remove_partials(path)
    with atomic_write(path, durable=True) as temporary, temporary.open("wb", buffering=1 << 20) as file:
        for sample in read_samples(rows, done.rows, shape=shape):
            done.rows += 1
            bar.update()
            if sample.error is not None:
                bad.append(sample.error)
                continue
            columns["offsets"].append(size)
            columns["seconds"].append(sample.seconds)
            columns["split"].append(sample.split)
            blocks = b"".join(
                block
                for member, content in sample.members(done.samples + len(columns["offsets"]) - 1)
                for block in (header(member, len(content)), content, padding(len(content)))
            )
            file.write(blocks)
            digest.update(blocks)
            size += len(blocks)
            if size >= shard_bytes:
                break
        file.write(END)
        digest.update(END)
    known = Shard(path.name, path.stat().st_size, len(columns["offsets"]), digest.hexdigest(), digest_of_ends(path))
    done.samples += known.samples
    done.shards.append(known)
    done.bad += bad
    _note_shard(folder / PACKING / name, known, rows=done.rows, bad=bad, columns=columns)


def _note_shard(
    note: Path, shard: Shard, *, rows: int, bad: Sequence[str], columns: Mapping[str, Sequence[Any]]
) -> None:
    """rows: of the manifest that are packed with this shard and those before it."""
    names = sorted({name for name in columns["split"] if name is not None})
    codes = [-1 if name is None else names.index(name) for name in columns["split"]]
    arrays = {**columns, "split": codes}
    with atomic_write(note.with_suffix(".npz")) as temporary, temporary.open("wb") as file:
        found: dict[str, Any] = {name: np.array(arrays[name], dtype=type_) for name, type_ in COLUMNS.items()}
        np.savez(file, **found)
    write_text(
        note.with_suffix(".json"), json.dumps({"shard": asdict(shard), "rows": rows, "bad": bad, "splits": names})
    )


def _write_index(folder: Path, done: Progress, settings: Mapping[str, Any]) -> None:
    """Join the notes of all shards, a column at a time; index.json last."""
    splits: dict[str, int] = {}
    for name, type_ in COLUMNS.items():
        column = np.concatenate([_noted(folder, number, name, splits) for number in range(len(done.shards))])
        remove_partials(folder / f"{name}.npy")
        with atomic_write(folder / f"{name}.npy", durable=True) as temporary, temporary.open("wb") as file:
            np.save(file, column.astype(type_, copy=False))
    index = {
        "format": FORMAT,
        "version": VERSION,
        "shape": settings["shape"],
        "samples": done.samples,
        "splits": list(splits),
        "settings": dict(settings),
        "shards": [asdict(shard) for shard in done.shards],
    }
    remove_partials(folder / INDEX)
    with atomic_write(folder / INDEX, durable=True) as temporary:
        temporary.write_text(json.dumps(index, indent=1))


def _noted(folder: Path, number: int, name: str, splits: dict[str, int]) -> np.ndarray:
    """A column of a shard by its note. splits: numbers of the names of all shards, which it adds to."""
    note = folder / PACKING / f"{number:05d}.json"
    with np.load(note.with_suffix(".npz")) as arrays:
        values: np.ndarray = arrays[name]
    if name != "split":
        return values
    names = json.loads(note.read_text())["splits"]
    return np.array([splits.setdefault(each, len(splits)) for each in names] + [-1], dtype=values.dtype)[values]
