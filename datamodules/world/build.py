"""Building a world: each subset into a temporary folder, renamed when whole, under a lock, with a progress bar.

A finished world of the same fingerprint is found and returned; a missing subset is added to it.
"""

import dataclasses
import fcntl
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datamodules.world.files import Row, write_rows
from datamodules.world.pictures import picture_counts
from datamodules.world.prompts import instruction_counts
from datamodules.world.rng import digest
from datamodules.world.spec import VERSION, WorldSpec, speech_counts
from datamodules.world.worker import Job, worker_pool
from datamodules.world.writing import writing_counts
from muomni.checkpoints.atomic_write import atomic_folder, write_text
from muomni.frontends.espeak import loader

SUBSETS = ("text", "pictures", "writing", "speech", "instructions")
NEEDS = {"instructions": ("pictures", "speech")}
NEEDS_SPEECH_ENGINE = ("speech", "instructions")
#: Subset -> (items of each split, items of a job).
COUNTS = {"pictures": (picture_counts, 500), "writing": (writing_counts, 500), "speech": (speech_counts, 125)}
INSTRUCTIONS_PER_JOB, TESTS_PER_JOB = 2000, 50
INLINE_BELOW = 1000  # pictures: a smaller world is built without worker processes
Run = Callable[[Iterable[Job]], Iterator[list[Row]]]


def world_root(spec: WorldSpec, data_root: Path | str) -> Path:
    """The world's folder, `<data_root>/world/<preset>-s<seed>-<hash8>`."""
    return Path(data_root) / "world" / spec.folder()


def build_world(
    spec: WorldSpec, data_root: Path | str, *, subsets: Sequence[str] = SUBSETS, workers: int | None = None
) -> Path:
    """The folder of the world, built where it (or one of `subsets`) does not exist yet.

    subsets: some of text, pictures, writing, speech, instructions (which needs pictures and speech); the first three need
    no extra.
    workers: processes; None takes one a core, at most eight, or none for a very small world.
    Raises ValueError for an unknown subset, or when speech is wanted and the extra `world` is not installed.
    """
    for subset in subsets:
        if subset not in SUBSETS:
            raise ValueError(f"world: unknown subset {subset!r}; subsets are {', '.join(SUBSETS)}")
    wanted = {*subsets, *(needed for subset in subsets for needed in NEEDS.get(subset, ()))}
    root = world_root(spec, data_root)
    if wanted <= read_fingerprint(root)["parts"].keys():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with root.with_name(f".{root.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits for whoever builds the same world
        missing = wanted - read_fingerprint(root)["parts"].keys()
        if not missing.isdisjoint(NEEDS_SPEECH_ENGINE):
            loader(who="world: speech")
        if workers is None:
            workers = 0 if spec.train_pictures < INLINE_BELOW else min(8, os.cpu_count() or 1)
        root.mkdir(exist_ok=True)
        with worker_pool(spec, count=workers) as run:
            for group in (SUBSETS[:-1], SUBSETS[-1:]):  # instructions are about the others
                if subsets := [subset for subset in group if subset in missing]:
                    _build_subsets(spec, root, subsets, run)
    return root


def read_fingerprint(root: Path) -> dict[str, Any]:
    """fingerprint.json of a world, {"version", "spec", "parts": {subset: {file or folder: sha256}}}."""
    path = root / "fingerprint.json"
    if not path.is_file():
        return {"parts": {}}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error}); remove the folder {root} to have it built again") from error


def _build_subsets(spec: WorldSpec, root: Path, subsets: list[str], run: Run) -> None:
    """Build subsets next to each other, each in a temporary folder, and add them to the fingerprint."""
    with ExitStack() as stack:
        folders = {subset: stack.enter_context(atomic_folder(root / subset, own=())) for subset in subsets}
        jobs = [job for subset, folder in folders.items() for job in jobs_of(subset, spec, folder)]
        bar = tqdm(run(jobs), total=len(jobs), desc=f"world {root.name}", unit="job")
        manifests: dict[Path, list[Row]] = defaultdict(list)
        for job, rows in zip(jobs, bar, strict=True):
            for row in rows:
                manifests[job.folder / f"{row['split']}.jsonl"].append(row)
        for path, rows in manifests.items():
            if "task" in rows[0] and path.stem in ("train", "val"):
                rows.sort(key=lambda row: digest("order", row["id"]))
            write_rows(path, rows)
    found = read_fingerprint(root) | {"version": VERSION, "spec": dataclasses.asdict(spec)}
    found["parts"] |= {subset: file_hashes(root / subset) for subset in subsets}
    write_text(root / "fingerprint.json", json.dumps(found, indent=1) + "\n")


def jobs_of(subset: str, spec: WorldSpec, folder: Path) -> list[Job]:
    """The work of a subset, in the order of its manifests: a job for each split of the text, and for each run of items of
    anything else."""
    if subset == "text":
        return [Job(module=subset, folder=folder, arguments={"split": split}) for split in ("train", "val", "test")]
    if subset == "instructions":
        module = "instruction_tests"
        streams = [({"split": split, "task": task}, count, TESTS_PER_JOB if "test" in split else INSTRUCTIONS_PER_JOB)
                   for (split, task), count in sorted(instruction_counts(spec).items())]  # fmt: skip
    else:
        module, (counts, size) = subset, COUNTS[subset]
        streams = [({"split": split}, count, size) for split, count in counts(spec).items()]
    return [
        Job(module=module, folder=folder, arguments={**stream, "start": start, "stop": min(start + size, count)})
        for stream, count, size in streams for start in range(0, count, size)
    ]  # fmt: skip


def file_hashes(folder: Path) -> dict[str, str]:
    """sha256 of each manifest, and of each folder of media files (over names and contents, in order)."""
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.jsonl"))}
    for branch, _, names in sorted(os.walk(folder)):
        media = sorted(name for name in names if not name.endswith(".jsonl"))
        if media:
            total = hashlib.sha256()
            for name in media:
                total.update(name.encode() + b"\0" + (Path(branch) / name).read_bytes())
            hashes[Path(branch).relative_to(folder).as_posix() + "/"] = total.hexdigest()
    return hashes
