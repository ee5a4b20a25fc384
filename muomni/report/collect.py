"""Finds the newest finished run of each stage and reads its files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from muomni.report.run_files import Curve, Row, read_curves, read_metrics, read_note, read_options, read_rows

#: In the order in which they are trained.
STAGES = ("thinker", "vision", "audio", "codec", "talker", "omni_sft", "vocoder")
#: Stages that the omni model does not need: shown if they were run, not reported as missing otherwise.
OPTIONAL = ("vocoder",)


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
    """The newest finished run of `stage` with this budget on this data, or None."""
    for folder, config in finished(runs, stage, budget=budget, data=data):
        return read_run(folder, stage, config)
    return None


def finished(runs: Path, stage: str, *, budget: str, data: str) -> Iterator[tuple[Path, Row]]:
    """Folders and configurations of the finished runs of a stage with this budget on this data, the newest first. Runs of an
    ablation do not count."""
    found = sorted((runs / stage).glob("**/metrics.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found:
        config = read_config(path.parent)
        trained_as = (config.get("task"), config.get("budget", {}).get("name"), config.get("data", {}).get("kind"))
        export = config.get("paths", {}).get("exports", {}).get(stage, f"/{stage}")
        if trained_as == ("fit", budget, data) and export.endswith(f"/{stage}") and not config.get("tag"):
            yield path.parent, config


def read_config(folder: Path) -> Row:
    """The composed configuration that Hydra kept, interpolations unresolved; empty where there is none."""
    return read_options(folder / ".hydra" / "config.yaml")


def read_run(folder: Path, stage: str, config: Row) -> StageRun:
    """Read a run folder. Raises ValueError naming a file that is damaged."""
    return StageRun(
        stage=stage,
        folder=folder,
        config=config,
        metrics=read_metrics(folder / "metrics.json"),
        curves=read_curves(folder / "metrics.csv"),
        samples=read_rows(folder / "samples" / "samples.jsonl"),
        journal=read_note(folder / "run.json"),
    )
