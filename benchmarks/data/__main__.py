"""python -m benchmarks.data     reading a data set of many rows, next to webdataset and HF datasets' streaming.

    rows=1000000        of the manifest and the pack, about 1.1 KB each on the disk
    root=DIR            where they are made and kept; left out: a temporary folder
    workers=2 batch=32 seconds=20       of each reader's loader; for how long its samples are counted
    sample=20000        rows with which first indexing and packing are timed
    only=NAME,NAME      of the readers: pack, manifest, webdataset, hf
    out=FILE            the numbers as JSON

Each reader is a process of its own, one after the other, with `workers` workers; imports are not counted. "open" ends when
the loader is there, "first batch" begins with open; "samples/CPU s" is by processor time of all processes, which other load
on the machine changes less. PSS is the most memory of all its processes together. "restore" is until
the first batch from the middle of the epoch. Aims at 10 million rows: open < 5 s, first batch < 10 s, PSS < 1 GB.
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
from benchmarks.results import table, write_results
from datamodules import large_manifests
from datamodules.large_manifests import LARGE_FILE
from datamodules.manifests import read_manifest
from datamodules.packs.index import INDEX
from datamodules.packs.writer import write_pack as pack_rows
from muomni.cli.key_value import read_options, run_program

OWN = {
    "rows": 1_000_000, "root": "", "workers": 2, "batch": 32, "seconds": 20, "sample": 20_000, "only": (), "out": "",
}  # fmt: skip
SHORT = dict(zip(("pack", "manifest", "webdataset", "hf"), READERS, strict=True))


@contextmanager
def folder(root: str) -> Iterator[Path]:
    """The folder of the data, removed in the end where the user named none."""
    if root:
        Path(root).mkdir(parents=True, exist_ok=True)
        yield Path(root)
        return
    with tempfile.TemporaryDirectory(prefix="muomni-bench-") as temporary:
        yield Path(temporary)


def writing(rows: int) -> dict[str, float]:
    """Processor seconds of first indexing and of packing, a million rows."""
    with tempfile.TemporaryDirectory(prefix="muomni-bench-") as temporary:
        manifest = Path(temporary) / "rows.jsonl"
        write_manifest(manifest, rows)
        large_manifests.LARGE_FILE = 1
        started = time.process_time()
        found = read_manifest(manifest, shape="text", cache=temporary)
        indexed = time.process_time()
        pack_rows(found, Path(temporary) / "pack", shape="text", shard_bytes=1 << 24, source="", what="rows")
        packed = time.process_time()
        large_manifests.LARGE_FILE = LARGE_FILE
    return {"indexing": (indexed - started) * 1e6 / rows, "packing": (packed - indexed) * 1e6 / rows}


def main(words: list[str]) -> None:
    options = read_options(words, OWN)
    rows = options["rows"]
    unknown = set(options["only"]) - set(SHORT)
    if unknown:
        raise ValueError(f"only={unknown.pop()}: available: {', '.join(SHORT)}")
    chosen = [SHORT[name] for name in options["only"] or SHORT]
    cost = writing(options["sample"])
    print(
        f"once, CPU seconds a million rows: indexing {cost['indexing']:.0f}, packing {cost['packing']:.0f}", flush=True
    )
    with folder(options["root"]) as root:
        manifest, pack, cache = root / f"{rows}.jsonl", root / f"{rows}.pack", root / "cache"
        if not manifest.is_file():
            write_manifest(manifest, rows)
        if manifest.stat().st_size >= LARGE_FILE:
            write_index(manifest, rows, cache)
        if not (pack / INDEX).is_file():
            write_pack(pack, rows)
        numbers = [str(each) for each in (rows, options["workers"], options["batch"], options["seconds"])]
        results: list[dict[str, Any]] = []
        for name in chosen:
            command = [sys.executable, "-m", "benchmarks.data.readers", name, str(manifest), str(pack), str(cache)]
            done = subprocess.run([*command, *numbers], check=False, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                print(f"{name}: failed", flush=True)
                continue
            results.append(json.loads(done.stdout.splitlines()[-1]))
            print(table(results[-1:]), flush=True)
    if not results:
        sys.exit("error: no reader gave a result")
    print(table(results))
    settings = {key: value for key, value in options.items() if key not in ("root", "out", "only")}
    write_results(options["out"], {"date": str(date.today()), **settings, "writing": cost, "readers": results})


if __name__ == "__main__":
    run_program(main)
