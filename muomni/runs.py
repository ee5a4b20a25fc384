"""Run folders: which configuration a run had, whether it ended, and what it measured.

runs/<stage>/<time>/   .hydra/  metrics.csv  metrics.json  identity.txt  checkpoints/
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Of the trainer's options, those that say where a run computes, not what: it goes on elsewhere, or in more processes.
PLACE = ("accelerator", "devices", "num_nodes", "strategy")


def identity(config: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    """16 hex digits over the parts of a configuration that decide what a run computes."""
    chosen = {key: config.get(key) for key in keys}
    if "trainer" in config:
        chosen["trainer"] = {key: value for key, value in config["trainer"].items() if key not in PLACE}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True, default=str).encode()).hexdigest()[:16]


def mark(folder: Path, run_identity: str) -> None:
    """Note in a run folder which configuration it belongs to."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "identity.txt", run_identity + "\n")


def find_unfinished(runs: Path, run_identity: str, *, current: Path) -> Path | None:
    """The resume checkpoint of the newest run of the same configuration that has not ended; None where there is none."""
    for marker in sorted(runs.glob("**/identity.txt"), key=lambda path: path.stat().st_mtime, reverse=True):
        folder = marker.parent
        if folder == current or marker.read_text().strip() != run_identity:
            continue
        if (folder / "metrics.json").is_file():
            return None
        checkpoint = folder / "checkpoints" / "resume.ckpt"
        if checkpoint.is_file():
            return checkpoint
    return None


def write_metrics(folder: Path, metrics: Mapping[str, float]) -> Path:
    """metrics.json: flat, "<stage>/<split>/<metric>": number. A number that is not finite is an error that names it."""
    for name, value in metrics.items():
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"metric {name} is {value}")
    path = folder / "metrics.json"
    write_atomically(path, json.dumps(dict(sorted(metrics.items())), indent=2) + "\n")
    return path


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
