"""Any run folder: what it was trained with, what it measured, its curves over steps, tokens, FLOPs and time."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from muomni import aliases
from muomni.report.collect import StageRun, read_config, read_run
from muomni.report.run_files import Curve, Row, read_curves, read_mapping, read_options
from muomni.run.sweeps import score
from muomni.user_path import user_path

#: Any of them makes a folder a run.
FILES = ("metrics.json", "metrics.csv", "run.json", "failed.json")
AXES = ("steps", "tokens", "FLOPs", "hours")
#: Options that say where a run is or who watches it, and decide nothing.
ELSEWHERE = (
    "paths.",
    "hydra.",
    "logger.",
    "callbacks.trial_report.",
    "callbacks.progress",
    "resume",
    "when_done",
    "prerequisites",
)
#: Options that are the seed, or follow it.
SEEDS = ("seed", "datamodule.seed")


@dataclass(frozen=True)
class Run:
    """A run folder. options: dotted option -> resolved value, without those of `ELSEWHERE`."""

    folder: Path
    read: StageRun
    options: Mapping[str, Any]
    failed: str | None = None
    axes: dict[str, Curve] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        return self.read.stage

    @property
    def seed(self) -> Any:
        return self.options.get("seed")

    @property
    def metrics(self) -> Mapping[str, float]:
        return self.read.metrics

    @property
    def state(self) -> str:
        """finished, with or without tests; unfinished: it trains, or was killed; failed."""
        if self.failed is not None:
            return "failed"
        return "finished" if (self.folder / "metrics.json").is_file() else "unfinished"

    @property
    def score(self) -> tuple[str, float] | None:
        """Name and value of what a sweep judges it by; of a finished run without tests the loss of its last validation."""
        ended = self.read.curves.items() if self.state == "finished" else ()
        monitor = self.read.config.get("stage", {}).get("monitor", f"{self.stage}/test/loss")
        return score(self.metrics, monitor, {name: values[-1] for name, (_, values) in ended})

    @cached_property
    def setting(self) -> tuple[tuple[str, str], ...]:
        """What runs of the same setting and other seeds share."""
        return tuple((key, repr(value)) for key, value in sorted(self.options.items()) if key not in SEEDS)

    def curve(self, name: str, axis: str) -> tuple[Sequence[float], list[float]] | None:
        """A column of metrics.csv over an axis of `AXES`; None where it or the axis was not logged."""
        found = self.read.curves.get(name)
        if found is None or axis == "steps":
            return found
        over = self._axis(axis)
        if over is None:
            return None
        steps, values = found
        return np.interp(steps, [0, *over[0]], [0, *over[1]]).tolist(), values

    def _axis(self, axis: str) -> Curve | None:
        if axis not in self.axes:
            self.axes[axis] = _measure_axis(self, axis) or ([], [])
        return self.axes[axis] if self.axes[axis][0] else None


def _measure_axis(run: Run, axis: str) -> Curve | None:
    """(steps, total so far). A run that logs totals (`total_tokens`, `total_flops`, `total_seconds`) has them; else tokens and
    time follow from the rates of each logging interval, and time at last from that of the whole training."""
    train = f"{run.stage}/train/"
    logged = run.read.curves.get(
        train + {"tokens": "total_tokens", "FLOPs": "total_flops", "hours": "total_seconds"}[axis]
    )
    if logged is not None:
        return logged if axis != "hours" else (logged[0], [value / 3600 for value in logged[1]])
    samples, seconds = run.read.curves.get(f"{train}samples_per_second"), run.read.journal.get("seconds", {}).get("fit")
    size = run.options.get("datamodule.batch_size")
    if samples is not None and size and not run.options.get("datamodule.batch_tokens"):
        there = [(step, rate) for step, rate in zip(*samples, strict=True) if math.isfinite(rate) and rate > 0]
        steps, rates = [step for step, _ in there], [rate for _, rate in there]
        each = size * int(run.options.get("trainer.accumulate_grad_batches") or 1)
        spans = [each * (step - before) / rate for before, step, rate in zip([0, *steps], steps, rates, strict=False)]
        if axis == "hours":
            return steps, (np.cumsum(spans) / 3600).tolist()
        tokens = run.read.curves.get(f"{train}tokens_per_second")
        if axis == "tokens" and tokens is not None and tokens[0] == steps:
            return steps, np.cumsum(np.array(spans) * np.array(tokens[1])).tolist()
    total = run.read.journal.get("steps")
    return ([total], [seconds / 3600]) if axis == "hours" and seconds and total else None


def read_folder(folder: Path) -> Run:
    """A run folder. Raises ValueError naming a damaged file, FileNotFoundError for a run without a configuration."""
    config = read_config(folder)
    whole = read_options(folder / "hparams.yaml") or config
    if not whole:
        raise FileNotFoundError(
            f"{folder}: a run without its configuration (.hydra/config.yaml, hparams.yaml): what it was trained with is not known"
        )
    read = (
        read_run(folder, _stage(folder, whole), config)
        if (folder / "metrics.json").is_file()
        else _unfinished(folder, whole)
    )
    options = {key: value for key, value in aliases.flattened(whole).items() if not key.startswith(ELSEWHERE)}
    options = {key: value for key, value in options.items() if str(folder) not in str(value)}
    options = {key: value for key, value in options.items() if _is_own(key, read.stage)}
    failed = folder / "failed.json"
    reason = str(read_mapping(failed).get("error", "")) if failed.is_file() else None
    return Run(folder, read, options, reason)


def _is_own(key: str, stage: str) -> bool:
    """Whether an option is not the budget of another stage."""
    parts = key.split(".")
    return parts[0] != "budget" or len(parts) < 3 or parts[1] == stage


def _unfinished(folder: Path, config: Row) -> StageRun:
    """A run that has measured nothing yet: its curves, as far as they go."""
    return StageRun(
        stage=_stage(folder, config), folder=folder, config=config, metrics={}, curves=read_curves(folder / "metrics.csv"),
        samples=[], journal={},
    )  # fmt: skip


def _stage(folder: Path, config: Row) -> str:
    return str(config.get("stage", {}).get("name") or folder.parent.name)


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return any((folder / name).is_file() for name in FILES)


def find_runs(names: Sequence[str]) -> list[Run]:
    """The runs of folders, in order; a sweep's folder stands for its jobs. Raises FileNotFoundError for a folder without any."""
    found: dict[Path, Run] = {}
    for name in names:
        folder = user_path(name)
        runs = [folder] if is_run(folder) else jobs_of(folder)
        if not runs:
            there = "holds no run (no metrics.csv, metrics.json or run.json)" if folder.is_dir() else "no such folder"
            raise FileNotFoundError(
                f"{name}: {there}; runs are in runs/STAGE/TIME, sweeps in runs/STAGE/TIME and runs/sweeps/NAME"
            )
        found |= {each.resolve(): read_folder(each) for each in runs}
    return list(found.values())


def jobs_of(folder: Path) -> list[Path]:
    """The run folders of a sweep's jobs, by number."""
    inside = [*folder.glob("*"), *folder.glob("trials/*"), *folder.glob("trials/*/seed-*")]
    return sorted((each for each in inside if each.is_dir() and is_run(each)), key=_by_number)


def _by_number(folder: Path) -> tuple[Any, ...]:
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in folder.parts[-2:])


def differences(settings: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Option -> its value in each, of options that are not the same in all; None where it is not there."""
    every = list(settings)
    keys = sorted({key for each in every for key in each})
    values = {key: [each.get(key) for each in every] for key in keys}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}
