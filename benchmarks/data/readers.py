"""One reader of the benchmark, in a process of its own: python -m benchmarks.data.readers NAME SHAPE MANIFEST PACK CACHE ROWS ..

Every reader gives batches of shuffled samples through a loader with workers: of text the rows as dicts, of other shapes what a
stage trains on. It prints one line of JSON.
"""

import importlib
import itertools
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.data.memory import PeakMemory, processor_seconds
from datamodules import large_manifests

BUFFER = 1000  # samples among which the streaming readers shuffle


@dataclass(frozen=True)
class Task:
    """What is read. seconds: for which samples are counted."""

    shape: str
    manifest: Path
    pack: Path
    cache: Path
    rows: int
    workers: int
    batch: int
    seconds: float


@dataclass(frozen=True)
class Opened:
    """batches: of an epoch. restore: begins again in the middle of the epoch -> its first batch; None: cannot. note: how."""

    batches: Iterator[Any]
    restore: Callable[[], Any] | None
    note: str


def muomni(task: Task, path: Path) -> Opened:
    """Our datamodule, as a stage has it."""
    from benchmarks.data.rows import data_of
    from datamodules.base import DataModule

    def data() -> DataModule:
        return data_of(
            task.shape, path, batch=task.batch, workers=task.workers, cache=task.cache, root=task.manifest.parent
        )

    def restore() -> Any:
        again = data()
        again.load_state_dict({"epoch": 0, "consumed": task.rows // 2 // task.batch * task.batch})
        return next(iter(again.train_dataloader()))

    return Opened(iter(data().train_dataloader()), restore, "whole epoch; exact position")


def web_dataset(task: Task) -> Opened:
    """The same tar files, as webdataset's documentation reads them."""
    import webdataset

    shards = [str(path) for path in sorted(task.pack.glob("*.tar"))]
    samples = webdataset.WebDataset(shards, shardshuffle=100, seed=0, nodesplitter=None, empty_check=False)
    samples = samples.shuffle(BUFFER).decode().map(lambda sample: sample["json"]).batched(task.batch, collation_fn=list)
    loader = webdataset.WebLoader(samples, batch_size=None, num_workers=task.workers)
    return Opened(iter(loader), None, f"shards and {BUFFER} samples; by reading all before it again")


def hugging_face(task: Task) -> Opened:
    """datasets, streaming the manifest."""
    import datasets
    from torch.utils.data import DataLoader

    datasets.disable_progress_bars()
    rows = datasets.load_dataset(
        "json", data_files=str(task.manifest), split="train", streaming=True, cache_dir=str(task.cache / "hf")
    )
    shuffled = rows.shuffle(seed=0, buffer_size=BUFFER)
    loader: Any = DataLoader(shuffled, batch_size=task.batch, num_workers=task.workers, collate_fn=list)

    def restore() -> Any:
        return next(iter(rows.skip(task.rows // 2)))

    return Opened(iter(loader), restore, f"{BUFFER} samples; skip(), in the order of the file")


READERS: dict[str, Callable[[Task], Opened]] = {
    "muomni, pack": lambda task: muomni(task, task.pack),
    "muomni, manifest": lambda task: muomni(task, task.manifest),
    "webdataset": web_dataset,
    "HF datasets, streaming": hugging_face,
}


IMPORTS = {"webdataset": ("webdataset",), "HF datasets, streaming": ("datasets", "torch.utils.data")}


def measure(name: str, task: Task) -> dict[str, Any]:
    """Seconds to open and to the first batch, samples a second, memory of all processes together, seconds to restore."""
    for module in IMPORTS.get(name, ("benchmarks.data.rows",)):
        importlib.import_module(module)
    with PeakMemory() as memory:
        started = time.perf_counter()
        opened = READERS[name](task)
        at_open = time.perf_counter()
        batches = opened.batches
        count = _size(next(batches))
        at_first, used = time.perf_counter(), processor_seconds()
        samples = 0
        for batch in batches:
            samples += _size(batch)
            if time.perf_counter() - at_first > task.seconds:
                break
        rate = samples / (time.perf_counter() - at_first)
        used = processor_seconds() - used
        at_restore = time.perf_counter()
        if opened.restore is not None:
            opened.restore()
        restored = time.perf_counter() - at_restore if opened.restore is not None else task.rows / 2 / rate
    assert count == task.batch
    return {
        "shape": task.shape,
        "reader": name,
        "open s": at_open - started,
        "first batch s": at_first - started,
        "samples/s": rate,
        "samples/CPU s": samples / max(used, 0.01),
        "PSS MB": memory.peak / 2**20,
        "restore s": restored,
        "shuffled; restored": opened.note + ("" if opened.restore is not None else " (computed)"),
    }


def _size(batch: Any) -> int:
    """Samples of a batch."""
    return len(getattr(batch, "sample_ids", batch))


def main(words: list[str]) -> None:
    name, shape, manifest, pack, cache, *numbers = words
    rows, workers, batch, seconds = (int(each) for each in numbers)
    task = Task(shape, Path(manifest), Path(pack), Path(cache), rows, workers, batch, seconds)
    logging.disable(logging.WARNING)
    large_manifests.LARGE_FILE = large_manifests.LARGE_PACK = 1
    print(json.dumps(measure(name, task)))


if __name__ == "__main__":
    main(list(itertools.islice(sys.argv, 1, None)))
