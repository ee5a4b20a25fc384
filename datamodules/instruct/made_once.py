"""Conversations that a configuration asks for (`data.instruct`): made before they are read, where they are not there yet."""

import fcntl
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.fingerprint import digest
from datamodules.instruct.build import OUTPUTS, Source, build_instructions
from muomni.checkpoints.atomic_write import write_text

log = logging.getLogger(__name__)

DEFAULTS: dict[str, Any] = {"out": None, "speech": (), "images": (), "rounds": 1, "limit": 0, "seed": 0}
MARKER = "made_of.json"


def make_instructions(options: Mapping[str, Any]) -> None:
    """Write the manifests that `python -m datamodules.instruct` writes of these options, unless they are those of these options
    and sources. Several processes may call it at once.

    Raises FileNotFoundError for a source that is not there, ValueError for options or sources that cannot be used and for a
    folder whose manifests are not made by a configuration.
    """
    unknown = sorted(set(options) - set(DEFAULTS))
    given: dict[str, Any] = DEFAULTS | dict(options)
    if unknown or not given["out"] or not (given["speech"] or given["images"]):
        wrong = f"unknown {', '.join(unknown)}" if unknown else "out and speech or images are needed"
        raise ValueError(f"data.instruct: {wrong}; its options are {', '.join(DEFAULTS)}")
    for key in ("speech", "images"):
        given[key] = [given[key]] if isinstance(given[key], str) else list(given[key])
        for path in given[key]:
            if not Path(path).exists():
                raise FileNotFoundError(f"data.instruct.{key}: {path}: no such manifest")
    sources = [Source(Path(path), "speech") for path in given["speech"]]
    sources += [Source(Path(path), "image_text") for path in given["images"]]
    folder = Path(given["out"])
    made = json.dumps({**given, "content": {str(each.path): digest(each.path) for each in sources}}, sort_keys=True)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        marker = folder / MARKER
        if marker.is_file() and marker.read_text() == made:
            return
        if not marker.is_file() and any((folder / f"{name}.jsonl").exists() for name in OUTPUTS):
            raise ValueError(f"data.instruct.out={folder}: holds other conversations; name another folder")
        marker.unlink(missing_ok=True)
        counts = build_instructions(sources, folder, seed=given["seed"], rounds=given["rounds"], limit=given["limit"])
        for name, tasks in counts.items():
            what = ", ".join(f"{count} {task}" for task, count in sorted(tasks.items()))
            log.info("%s: %d questions (%s)", folder / f"{name}.jsonl", sum(tasks.values()), what)
        write_text(marker, made)
