"""python -m benchmarks.data     reading a data set of many rows, next to webdataset and HF datasets' streaming.

    rows=1000000        of the manifest and the pack, about 1.1 KB each on the disk, 2.3 with media
    shapes=text,speech,image_text,sft   of the rows; those of text are only read, others become what a stage trains on
    root=DIR            where they are made and kept; left out: a temporary folder
    workers=2 batch=32 seconds=20       of each reader's loader; for how long its samples are counted
    sample=20000        rows with which first indexing and packing are timed
    opening=10000000    rows of media, computed instead of read, with which opening alone is measured (opening.py); 0: not
    only=NAME,NAME      of the readers: pack, manifest, and of text webdataset, hf
    out=FILE            the numbers as JSON

The rows stay on the disk however few they are, so that fewer show what more would take. Each reader is a process of its own, one
after the other, with `workers` workers; imports are not counted. "open" ends when the loader is there, "first batch" begins
with open; "samples/CPU s" is by processor time of all processes, which other load on the machine changes less. PSS is the most
memory of all its processes together. "restore" is until the first batch from the middle of the epoch. "once s": the first
batch of the first opening, when lengths and characters of all rows are not known yet. Aims at 10 million rows: open < 5 s,
first batch < 10 s, PSS < 1 GB.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.data.prepare import write_index, write_manifest, write_pack
from benchmarks.data.readers import READERS
from benchmarks.data.rows import train_tokenizer
from benchmarks.data.shapes import RowShape, row_shapes
from benchmarks.results import table, write_results
from datamodules import large_manifests
from datamodules.large_manifests import LARGE_FILE
from datamodules.manifests import read_manifest
from datamodules.packs.index import INDEX
from datamodules.packs.writer import write_pack as pack_rows
from muomni.cli.key_value import read_options, run_program

OWN = {
    "rows": 1_000_000, "shapes": tuple(row_shapes()), "root": "", "workers": 2, "batch": 32, "seconds": 20, "sample": 20_000,
    "opening": 10_000_000, "only": (), "out": "",
}  # fmt: skip
SHORT = dict(zip(("pack", "manifest", "webdataset", "hf"), READERS, strict=True))
OURS = (SHORT["pack"], SHORT["manifest"])


@contextmanager
def folder(root: str) -> Iterator[Path]:
    """The folder of the data, removed in the end where the user named none."""
    if root:
        Path(root).mkdir(parents=True, exist_ok=True)
        yield Path(root)
        return
    with tempfile.TemporaryDirectory(prefix="muomni-bench-") as temporary:
        yield Path(temporary)


def writing(rows: int, shape: RowShape) -> dict[str, float]:
    """Processor seconds of first indexing and of packing, a million rows."""
    with tempfile.TemporaryDirectory(prefix="muomni-bench-") as temporary:
        manifest = Path(temporary) / "rows.jsonl"
        write_manifest(manifest, rows, shape)
        large_manifests.LARGE_FILE = 1
        started = time.process_time()
        found = read_manifest(manifest, shape=shape.name, cache=temporary)
        indexed = time.process_time()
        pack_rows(found, Path(temporary) / "pack", shape=shape.name, shard_bytes=1 << 24, source="", what="rows")
        packed = time.process_time()
        large_manifests.LARGE_FILE = LARGE_FILE
    return {"indexing": (indexed - started) * 1e6 / rows, "packing": (packed - indexed) * 1e6 / rows}


def read_shape(shape: RowShape, root: Path, options: dict[str, Any]) -> list[dict[str, Any]]:
    """What each reader of a shape needs."""
    rows = options["rows"]
    manifest, pack, cache = root / f"{shape.name}-{rows}.jsonl", root / f"{shape.name}-{rows}.pack", root / "cache"
    if not manifest.is_file():
        write_manifest(manifest, rows, shape)
    train_tokenizer(root)
    write_index(manifest, rows, cache, shape)
    if not (pack / INDEX).is_file():
        write_pack(pack, rows, shape)
    results: list[dict[str, Any]] = []
    for name in [SHORT[each] for each in options["only"] or SHORT]:
        if shape.name != "text" and name not in OURS:
            continue
        once = (
            read_by(name, shape, (manifest, pack, cache), options | {"seconds": 0})["first batch s"]
            if name in OURS
            else None
        )
        found = read_by(name, shape, (manifest, pack, cache), options)
        results.append(found | {"once s": once})
        print(table(results[-1:]), flush=True)
    return results


def open_rows(shape: str, root: Path, options: dict[str, Any]) -> dict[str, Any]:
    """What opening very many rows of a shape needs."""
    (root / "opening").mkdir(exist_ok=True)
    train_tokenizer(root / "opening")
    numbers = [options[key] for key in ("opening", "workers", "batch")]
    return in_process("opening", [shape, *map(str, numbers), str(root / "opening")])


def read_by(name: str, shape: RowShape, paths: tuple[Path, ...], options: dict[str, Any]) -> dict[str, Any]:
    """What a reader needs, in a process of its own. Raises ValueError where it fails."""
    numbers = [options[key] for key in ("rows", "workers", "batch", "seconds")]
    words = [name, shape.name, *map(str, [*paths, *numbers])]
    return in_process("readers", words)


def in_process(module: str, words: list[str]) -> dict[str, Any]:
    """What a module of this package prints last. Raises ValueError where it fails."""
    command = [sys.executable, "-m", f"benchmarks.data.{module}", *words]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise ValueError(f"{module} {' '.join(words[:2])}: failed")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(words: list[str]) -> None:
    options = read_options(words, OWN)
    unknown = set(options["only"]) - set(SHORT)
    if unknown:
        raise ValueError(f"only={unknown.pop()}: available: {', '.join(SHORT)}")
    shapes = row_shapes()
    if strange := set(options["shapes"]) - set(shapes):
        raise ValueError(f"shapes={strange.pop()}: available: {', '.join(shapes)}")
    costs, results, opened = dict[str, dict[str, float]](), list[dict[str, Any]](), list[dict[str, Any]]()
    for name in options["shapes"]:
        cost = costs[name] = writing(options["sample"], shapes[name])
        said = f"indexing {cost['indexing']:.0f}, packing {cost['packing']:.0f}"
        print(f"{name}, once, CPU seconds a million rows: {said}", flush=True)
        with folder(options["root"]) as root:
            results += read_shape(shapes[name], root, options)
            if options["opening"] and name != "text":
                opened.append(open_rows(name, root, options))
    if not results:
        sys.exit("error: no reader gave a result")
    print(table(results))
    if opened:
        print(table(opened))
    settings = {key: value for key, value in options.items() if key not in ("root", "out", "only", "shapes")}
    write_results(
        options["out"], {"date": str(date.today()), **settings, "writing": costs, "readers": results, "opening": opened}
    )


if __name__ == "__main__":
    run_program(main)
