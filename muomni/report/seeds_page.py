"""python -m muomni.report seeds=0,1,2: every goal over trainings of several seeds, as seeds.md and seeds.json.

Worst is the highest value where lower is better, else the lowest; the spread is max - min. A goal is reached by every seed only
if it was measured in every one.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muomni.checkpoints.atomic_write import write_text
from muomni.program import TRAIN
from muomni.report import tables
from muomni.report.goals import COLUMNS, Goal, read_goals
from muomni.report.run_files import read_mapping
from muomni.report.seeds import Summary
from muomni.report.tables import number
from muomni.report.trainings import Training, check_settings, find_trainings, roots_of

NOTE = (
    "Worst: the highest value where lower is better, else the lowest. Spread: max - min. n: seeds in which it was measured. "
    "Names of metrics: docs/metrics.md."
)


@dataclass(frozen=True)
class Measured:
    """A goal's values by seed; those of seeds in which it was not measured are left out."""

    goal: Goal
    values: dict[str, float]
    seeds: tuple[str, ...]
    column: str

    @property
    def summary(self) -> Summary:
        return Summary(tuple(self.values.values()))

    @property
    def ends(self) -> tuple[str, str]:
        """The seeds of the worst and the best value."""
        worst, best = (
            choose(self.values, key=lambda seed: self.goal.badness(self.values[seed])) for choose in (max, min)
        )
        return worst, best

    @property
    def reached_by(self) -> list[str]:
        return [seed for seed, value in self.values.items() if self.goal.shortfall(value, self.column) == 0]

    @property
    def missed_by(self) -> list[str]:
        return [seed for seed in self.values if seed not in self.reached_by]

    @property
    def verdict(self) -> str:
        """By which seeds the goal is reached, and by how much the worst one misses it."""
        if not self.values:
            return "**not measured**"
        unknown = [seed for seed in self.seeds if seed not in self.values]
        rest = f"; not measured in {_named(unknown)}" if unknown else ""
        if not self.missed_by:
            return ("every seed" if not unknown else f"{len(self.reached_by)} of {len(self.seeds)}") + rest
        missing = number(self.goal.shortfall(self.values[self.ends[0]], self.column))
        if not self.reached_by:
            return f"**no seed**, worst misses by {missing}{rest}"
        share = f"**{len(self.reached_by)} of {len(self.seeds)}**, missed by {_named(self.missed_by)}"
        return f"{share}, worst misses by {missing}{rest}"


def write_seeds(
    roots: Sequence[Path], seeds: Sequence[str], out: Path, *, budget: str, data: str, command: str
) -> tuple[Path, list[str]]:
    """Write `out`/seeds.md and seeds.json; return the Markdown file and lines about stages without a run.

    Raises FileNotFoundError for a root without runs and for seeds without a training, ValueError for a budget without goals and
    for trainings that differ by more than their seed."""
    if budget not in COLUMNS:
        raise ValueError(f"budget={budget} has no goals (muomni/report/goals.yaml has those of {', '.join(COLUMNS)})")
    trainings = _wanted(roots, seeds, budget=budget, data=data)
    check_settings(trainings)
    measured = measure(trainings, read_goals(), budget)
    lacking = [
        f"seed {each.seed}: no finished run of {', '.join(each.missing)} in {each.root}/runs"
        for each in trainings if each.missing
    ]  # fmt: skip
    names = ", ".join(each.seed for each in trainings)
    lines = [
        f"# Goals over seeds {names}: budget={budget}\n", f"Made by `{command}`. {NOTE}\n",
        *(f"**{line}**\n" for line in lacking),
        f"## Goals\n\n{_counts(measured)}\n", goals_table(measured, budget), "## By seed\n", values_table(measured, trainings),
        "## Trainings\n", trainings_table(trainings),
    ]  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "seeds.json", json.dumps(_document(measured, trainings, budget), indent=2) + "\n")
    write_text(out / "seeds.md", "\n".join(lines))
    return out / "seeds.md", lacking


def read_seeds(text: str) -> list[str]:
    """The seeds of `seeds=`. Raises ValueError unless they are two different whole numbers or more."""
    seeds = [word.strip() for word in text.split(",")]
    for seed in seeds:
        if not (seed.isascii() and seed.isdigit()):
            raise ValueError(
                f"seeds={text}: {seed!r} is no seed; whole numbers with commas between them are needed, seeds=0,1,2"
            )
    seeds = [str(int(seed)) for seed in seeds]
    if len(set(seeds)) < len(seeds) or len(seeds) < 2:
        raise ValueError(
            f"seeds={text}: two different seeds or more are needed; the report of a single one is made without seeds="
        )
    return seeds


def _wanted(roots: Sequence[Path], seeds: Sequence[str], *, budget: str, data: str) -> list[Training]:
    """The trainings of the seeds, in their order."""
    holding: list[Path] = []
    for root in roots:
        own = roots_of(root)
        if not own:
            there = "holds no runs/STAGE/TIME, nor does a folder of its seeds/" if root.is_dir() else "no such folder"
            raise FileNotFoundError(
                f"root={root}: {there}; give a folder that was paths.root of a training, or that has seeds/"
            )
        holding += own
    found = find_trainings(holding, budget=budget, data=data)
    missing = [seed for seed in seeds if seed not in found]
    if missing:
        there = f"there are {_named(list(found))}" if found else "there are none"
        words = (
            f"stage=omni_sft budget={budget} seed={missing[0]} paths.root=seeds/{budget}-{missing[0]} paths.data=data"
        )
        raise FileNotFoundError(
            f"{_named(missing)}: no finished run with budget={budget} on data={data} under {', '.join(map(str, roots))} "
            f"({there}); {TRAIN} {words}  trains one"
        )
    return [found[seed] for seed in seeds]


def measure(trainings: Sequence[Training], goals: Sequence[Goal], column: str) -> list[Measured]:
    """The goals of a budget with their values; those of optional stages that nothing was trained of are left out."""
    stages = {stage for each in trainings for stage in (*each.runs, *each.missing)}
    found = []
    for goal in goals:
        if column in goal.targets and goal.stage in stages:
            values = {each.seed: goal.value(each.metrics) for each in trainings}
            known = {seed: value for seed, value in values.items() if value is not None}
            found.append(Measured(goal, known, tuple(values), column))
    return found


def goals_table(measured: Sequence[Measured], column: str) -> str:
    """Mean, worst, best and spread of each goal, and which seeds reach it."""
    rows: list[list[Any]] = []
    for each in measured:
        bound = f"{'<=' if each.goal.lower else '>='} {number(each.goal.targets[column])}"
        cells: list[Any] = [None] * 5
        if each.values:
            ends = [(each.values[seed], f" (seed {seed})" if each.summary.spread else "") for seed in each.ends]
            cells = [
                each.summary.mean,
                *(number(value) + where for value, where in ends),
                each.summary.spread,
                each.summary.n,
            ]
        rows.append([each.goal.stage, each.goal.what, bound, *cells, each.verdict])
    header = ["stage", "metric", f"goal ({column})", "mean", "worst", "best", "spread", "n", "reached by"]
    return tables.table(header, rows)


def values_table(measured: Sequence[Measured], trainings: Sequence[Training]) -> str:
    """The value of each goal in each seed, in bold where it is missed."""
    rows: list[list[Any]] = []
    for each in measured:
        cells = [
            f"**{number(each.values[seed])}**" if seed in each.missed_by else each.values.get(seed) for seed in each.seeds
        ]  # fmt: skip
        rows.append([each.goal.stage, each.goal.what, *cells])
    return tables.table(["stage", "metric", *(f"seed {each.seed}" for each in trainings)], rows)


def trainings_table(trainings: Sequence[Training]) -> str:
    """Where each seed was trained, how long, and what else may set them apart: precision, processor, commit."""
    rows: list[list[Any]] = []
    for each in trainings:
        runs = list(each.runs.values())
        minutes = tables.minutes_of_training(runs)
        rows.append([each.seed, str(each.root), len(runs), None if minutes is None else round(minutes, 1),
                     _noted(run.journal.get("precision") for run in runs),
                     _noted(run.journal.get("machine", {}).get("processor") for run in runs),
                     _noted(_commit(run.folder) for run in runs),
                     min((str(run.journal["started"]) for run in runs if "started" in run.journal), default=None)])  # fmt: skip
    return tables.table(["seed", "folder", "stages", "minutes", "precision", "processor", "commit", "started"], rows)


def _noted(values: Iterable[Any]) -> str:
    """The different ones of the notes of runs."""
    return ", ".join(dict.fromkeys(str(value) for value in values if value))


def _commit(folder: Path) -> str:
    """The commit that a run was trained with, and whether files differed from it; "" if it noted none."""
    noted = folder / "source" / "state.json"
    git = (read_mapping(noted).get("git") or {}) if noted.is_file() else {}
    return f"{str(git['commit'])[:10]}{' with changes' if git.get('dirty') else ''}" if git.get("commit") else ""


def _counts(measured: Sequence[Measured]) -> str:
    """Which goals every seed and no seed reaches."""
    every = [each for each in measured if len(each.reached_by) == len(each.seeds)]
    none = [each for each in measured if each.values and not each.reached_by]
    unknown = [each for each in measured if not each.values]
    lines = [f"{len(every)} of {len(measured)} goals are reached by every seed, {len(none)} by no seed."]
    for title, group in (("Reached by every seed", every), ("Reached by no seed", none), ("Not measured", unknown)):
        if group:
            lines.append(f"{title}: " + "; ".join(f"{each.goal.stage}: {each.goal.what}" for each in group) + ".")
    return "\n\n".join(lines)


def _document(measured: Sequence[Measured], trainings: Sequence[Training], budget: str) -> dict[str, Any]:
    """What seeds.json holds."""
    goals = [
        {
            "stage": each.goal.stage, "what": each.goal.what, "goal": each.goal.targets[budget],
            "better": "lower" if each.goal.lower else "higher", "values": each.values,
            "mean": each.summary.mean if each.values else None, "spread": each.summary.spread if each.values else None,
            "worst": each.values[each.ends[0]] if each.values else None, "reached_by": each.reached_by,
        }
        for each in measured
    ]  # fmt: skip
    return {"budget": budget, "seeds": [each.seed for each in trainings], "goals": goals}


def _named(seeds: Sequence[str]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}"
