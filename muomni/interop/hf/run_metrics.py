"""What was measured of an export: metrics.json of the run that made it.

ROOT/checkpoints/<stage>/model.yaml       facts.run.identity
ROOT/runs/<stage>/<time>/identity.txt     the same, next to metrics.json
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muomni import aliases

METRICS, IDENTITY, JOURNAL = "metrics.json", "identity.txt", "run.json"


def find_run(export: Path, metadata: Mapping[str, Any]) -> Path | None:
    """The newest finished run folder with the identity that the export says, next to the folder of exports; None for none."""
    run = metadata.get("run")
    identity = run.get("identity") if isinstance(run, Mapping) else None
    runs = export.absolute().parent.parent / "runs" / str(metadata.get("stage"))
    if not isinstance(identity, str) or not runs.is_dir():
        return None
    found = [
        path.parent
        for path in runs.glob(f"**/{IDENTITY}")
        if path.read_text(errors="replace").split()[:1] == [identity]
    ]
    finished = [folder for folder in found if (folder / METRICS).is_file()]
    return max(finished, key=lambda folder: (folder / METRICS).stat().st_mtime, default=None)


def read_metrics(path: Path) -> dict[str, float]:
    """Flat names -> numbers. Raises FileNotFoundError or ValueError naming the file."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}: name the metrics.json of a run")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON ({error})") from error
    if not isinstance(content, dict) or not all(isinstance(value, int | float) for value in content.values()):
        raise ValueError(f"{path}: not the metrics.json of a run: names and numbers")
    return {aliases.metric(name): float(value) for name, value in content.items()}


def read_journal(run: Path) -> dict[str, Any]:
    """run.json of a run folder; empty where there is none that can be read."""
    try:
        content = json.loads((run / JOURNAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
