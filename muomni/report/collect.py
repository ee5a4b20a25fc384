"""Finds the newest finished run of each stage and reads its files."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from muomni import aliases

#: In the order in which they are trained.
STAGES = ("thinker", "vision", "audio", "codec", "talker", "omni_sft", "vocoder")
#: Stages that the omni model does not need: shown if they were run, not reported as missing otherwise.
OPTIONAL = ("vocoder",)

Row = dict[str, Any]
Curve = tuple[list[int], list[float]]


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """A finished run.

    metrics: "<stage>/<split>/<metric>" -> number. curves: column of metrics.csv -> (steps, values).
    samples: rows of samples.jsonl, media in `folder`/samples. journal: run.json, empty where there is none.
    """

    stage: str
    folder: Path
    config: Row
    metrics: dict[str, float]
    curves: dict[str, Curve]
    samples: list[Row]
    journal: Row


def newest_run(runs: Path, stage: str, *, budget: str, data: str) -> StageRun | None:
    """The newest finished run of `stage` with this budget on this data, or None. Runs
    of an ablation do not count."""
    found = sorted((runs / stage).glob("**/metrics.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found:
        config = read_config(path.parent)
        trained_as = (config.get("task"), config.get("budget", {}).get("name"), config.get("data", {}).get("kind"))
        export = config.get("paths", {}).get("exports", {}).get(stage, f"/{stage}")
        if trained_as == ("fit", budget, data) and export.endswith(f"/{stage}") and not config.get("tag"):
            return read_run(path.parent, stage, config)
    return None


def read_config(folder: Path) -> Row:
    """The composed configuration that Hydra kept, interpolations unresolved; empty where there is none."""
    path = folder / ".hydra" / "config.yaml"
    return aliases.config(yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}


def read_run(folder: Path, stage: str, config: Row) -> StageRun:
    """Read a run folder. Raises ValueError naming a file that is damaged."""
    samples = folder / "samples" / "samples.jsonl"
    journal = folder / "run.json"
    return StageRun(
        stage=stage,
        folder=folder,
        config=config,
        metrics={aliases.metric(name): value for name, value in _json(folder / "metrics.json").items()},
        curves=read_curves(folder / "metrics.csv"),
        samples=[json.loads(line) for line in samples.read_text().splitlines()] if samples.is_file() else [],
        journal=_json(journal) if journal.is_file() else {},
    )


def _json(path: Path) -> Row:
    try:
        document = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path}: not a JSON object")
    return document


def read_curves(path: Path) -> dict[str, Curve]:
    """Columns of a metrics.csv as curves over the step, without empty cells."""
    curves: dict[str, Curve] = {}
    if not path.is_file():
        return curves
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if not row.get("step"):
                continue
            for name, value in row.items():
                if value and name not in ("step", "epoch"):
                    steps, values = curves.setdefault(aliases.metric(name), ([], []))
                    steps.append(int(float(row["step"])))
                    values.append(float(value))
    return curves
