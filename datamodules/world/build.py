"""Building a world: each part into a temporary folder, renamed when whole, under a lock, with a progress bar.

A finished world of the same fingerprint is found and returned; a missing part is added to it.
"""

import dataclasses
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datamodules.world.files import Row, write_rows
from datamodules.world.pictures import picture_counts
from datamodules.world.prompts import task_counts, test_counts
from datamodules.world.rng import digest
from datamodules.world.spec import VERSION, WorldSpec, speech_counts
from datamodules.world.worker import Job, Workers
from datamodules.world.writing import writing_counts

PARTS = ("text", "pictures", "writing", "speech", "instructions")
NEEDS = {"instructions": ("pictures", "speech")}
NEEDS_SPEECH_ENGINE = ("speech", "instructions")
#: Part -> (items of each split, items of a job).
COUNTS = {"pictures": (picture_counts, 500), "writing": (writing_counts, 500), "speech": (speech_counts, 125)}
ITEMS_PER_JOB, TESTS_PER_JOB = 2000, 50  # of instructions
SIZE_OF_SPLIT = {"train": "instructions", "val": "instruction_val"}
Shards = dict[tuple[str, int], list[Row]]  # by task ("" where there is one) and first index
INLINE_BELOW = 1000  # pictures: a smaller world is built without worker processes


def world_root(spec: WorldSpec, data_root: Path | str) -> Path:
    """The world's folder, `<data_root>/world/<preset>-s<seed>-<hash8>`."""
    return Path(data_root) / "world" / spec.folder()


def build_world(
    spec: WorldSpec, data_root: Path | str, *, parts: Sequence[str] = PARTS, workers: int | None = None
) -> Path:
    """The folder of the world, built where it (or one of `parts`) does not exist yet.

    parts: some of text, pictures, writing, speech, instructions (which needs pictures and speech); the first three need
    no extra.
    workers: processes; None takes one a core, at most eight, or none for a very small world.
    Raises ValueError for an unknown part, or when speech is wanted and the extra `world` is not installed.
    """
    for part in parts:
        if part not in PARTS:
            raise ValueError(f"world: unknown part {part!r}; parts are {', '.join(PARTS)}")
    wanted = [part for part in PARTS if part in parts or any(part in NEEDS.get(other, ()) for other in parts)]
    root = world_root(spec, data_root)
    if not missing_parts(root, wanted):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with locked(root.parent / f".{root.name}.lock"):
        missing = missing_parts(root, wanted)
        if any(part in NEEDS_SPEECH_ENGINE for part in missing):
            require_speech_engine()
        if workers is None:
            workers = 0 if spec.train_pictures < INLINE_BELOW else min(8, os.cpu_count() or 1)
        root.mkdir(exist_ok=True)
        with Workers(spec, count=workers) as pool:
            for group in ([p for p in missing if p != "instructions"], [p for p in missing if p == "instructions"]):
                _build_parts(spec, root, group, pool)
    return root


def missing_parts(root: Path, parts: Sequence[str]) -> list[str]:
    """The parts that the fingerprint at `root` does not list."""
    return [part for part in parts if part not in read_fingerprint(root)["parts"]]


def read_fingerprint(root: Path) -> dict[str, Any]:
    """fingerprint.json of a world, {"version", "spec", "parts": {part: {file or folder: sha256}}}."""
    path = root / "fingerprint.json"
    if not path.is_file():
        return {"parts": {}}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error}); remove the folder {root} to have it built again") from error


def require_speech_engine() -> None:
    """Raise ValueError unless the package that speaks is installed."""
    if importlib.util.find_spec("espeakng_loader") is None:
        raise ValueError("world: speech needs the package espeakng-loader: pip install 'muomni[world]'")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`, waiting for whoever builds the same world."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build_parts(spec: WorldSpec, root: Path, parts: list[str], pool: Workers) -> None:
    """Build parts side by side, each in a temporary folder next to its own."""
    folders = {part: root / f".{part}.partial" for part in parts}
    jobs: list[Job] = []
    try:
        for part, folder in folders.items():
            shutil.rmtree(folder, ignore_errors=True)  # left by a build that was killed
            folder.mkdir()
            jobs += jobs_of(part, spec, folder)
        rows: dict[tuple[Path, str], Shards] = {}
        title = f"world {root.name}"
        for job, found in tqdm(pool.run(jobs), total=len(jobs), desc=title, unit="job", disable=not jobs):
            if found:
                shard = rows.setdefault((job.folder, job.arguments["split"]), {})
                shard[job.arguments.get("task", ""), job.arguments["start"]] = found
        for folder in folders.values():
            _write_manifests(folder, {split: shards for (where, split), shards in rows.items() if where == folder})
        for part, folder in folders.items():
            shutil.rmtree(root / part, ignore_errors=True)
            folder.rename(root / part)
            _add_fingerprint(spec, root, part)
    finally:
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)


def _write_manifests(folder: Path, splits: dict[str, Shards]) -> None:
    """One manifest a split, its shards in order; the narrator's stream follows train's; mixed where tasks are."""
    for split, shards in splits.items():
        if split == "narrator":
            continue
        streams = [shards, splits["narrator"]] if split == "train" and "narrator" in splits else [shards]
        rows = [row for stream in streams for key in sorted(stream) for row in stream[key]]
        if split in ("train", "val") and any(task for task, _ in shards):
            rows.sort(key=lambda row: digest("order", row["id"]))
        write_rows(folder / f"{split}.jsonl", rows)


def jobs_of(part: str, spec: WorldSpec, folder: Path) -> list[Job]:
    """The work of a part: a job for each split of the text, and for each run of items of anything else."""
    if part == "text":
        return [Job(task=part, folder=folder, arguments={"split": split}) for split in ("train", "val", "test")]
    groups: list[tuple[dict[Any, int], int]]  # (items by (split,) or (split, task), items of a job)
    if part == "instructions":
        trained = {(split, task): count for split in ("train", "val")
                   for task, count in task_counts(getattr(spec, SIZE_OF_SPLIT[split])).items()}  # fmt: skip
        groups = [(test_counts(spec), TESTS_PER_JOB), (trained, ITEMS_PER_JOB)]
    else:
        counts, size = COUNTS[part]
        groups = [({(split,): count for split, count in counts(spec).items()}, size)]
    return [
        Job(task=part, folder=folder, arguments={**dict(zip(("split", "task"), key, strict=False)),
                                                 "start": start, "stop": min(start + size, count)})
        for items, size in groups for key, count in items.items() for start in range(0, count, size)
    ]  # fmt: skip


def _add_fingerprint(spec: WorldSpec, root: Path, part: str) -> None:
    found = read_fingerprint(root)
    found |= {"version": VERSION, "spec": dataclasses.asdict(spec)}
    found["parts"][part] = shard_hashes(root / part)
    temporary = root / ".fingerprint.partial"
    temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    temporary.replace(root / "fingerprint.json")


def shard_hashes(folder: Path) -> dict[str, str]:
    """sha256 of each manifest, and of each folder of media files (over names and contents, in order)."""
    hashes = {}
    for path in sorted(folder.glob("*.jsonl")):
        hashes[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    for branch, _, names in sorted(os.walk(folder)):
        media = sorted(name for name in names if not name.endswith(".jsonl"))
        if media:
            total = hashlib.sha256()
            for name in media:
                total.update(name.encode() + b"\0" + (Path(branch) / name).read_bytes())
            hashes[Path(branch).relative_to(folder).as_posix() + "/"] = total.hexdigest()
    return hashes
