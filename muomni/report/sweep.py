"""python -m muomni.report sweep FOLDER: the jobs of a sweep, as sweep.html and sweep.md in its folder.

FOLDER is that of a study (muomni/sweep, runs/sweeps/NAME) or of a Hydra multirun (train.py -m, runs/STAGE/TIME). Its jobs in a
table and on parallel coordinates, how much each option mattered (PED-ANOVA, Watanabe et al. 2023), and their validation curves.
"""

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from muomni.checkpoints.atomic_write import write_text
from muomni.report import html, tables
from muomni.report.distributions import distribution, is_numeric
from muomni.report.html import Page
from muomni.report.run_files import read_mapping, read_words
from muomni.report.runs import SEEDS, Run, is_run, jobs_of, read_folder
from muomni.report.seeds import Summary
from muomni.report.svg import Line, Series, bar_chart, line_chart, parallel_coordinates
from muomni.report.tables import number
from muomni.run.monitors import mode_of

#: Trials that end with a value before the importance of options is estimated.
LEAST_TRIALS = 4


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of a sweep. value: of the metric; None if it has none. curve: of validations, over steps. more: further metrics, with
    their 95 % intervals where they have one."""

    name: str
    values: dict[str, Any]
    outcome: str
    value: float | None
    reason: str
    seconds: float | None
    curve: tuple[list[int], list[float]]
    folder: Path
    more: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Jobs that are judged by one metric. wanted: how many there are to be."""

    folder: Path
    metric: str
    lower: bool
    jobs: list[Job]
    wanted: int
    log: frozenset[str] = frozenset()

    @property
    def options(self) -> list[str]:
        return list(dict.fromkeys(key for job in self.jobs for key in job.values))

    @property
    def best(self) -> Job | None:
        there = [job for job in self.jobs if math.isfinite(self.order(job)) and job.outcome == "complete"]
        return min(there, key=self.order) if there else None

    def order(self, job: Job) -> float:
        """The best first, those without a value last."""
        if job.value is None or not math.isfinite(job.value):
            return math.inf
        return job.value if self.lower else -job.value


def read_sweep(folder: Path, *, metrics: Sequence[str] = ()) -> Sweep:
    """The sweep in a folder. metrics: further ones of its jobs, `SPLIT/NAME` or `STAGE/SPLIT/NAME`. Raises FileNotFoundError
    where there is none, ValueError if a file is damaged, and for a metric that no job has."""
    if (folder / "study.json").is_file():
        if metrics:
            raise ValueError(
                f"metrics={','.join(metrics)}: of a study only what it is judged by is known: leave it out"
            )
        return _study(folder)
    jobs = jobs_of(folder)
    if not jobs or is_run(folder):
        what = "is a run, not a sweep" if is_run(folder) else "holds no sweep" if folder.is_dir() else "no such folder"
        raise FileNotFoundError(
            f"{folder}: {what}; a sweep is runs/sweeps/NAME (muomni.sweep) or runs/STAGE/TIME of train.py -m"
        )
    return _multirun(folder, [read_folder(job) for job in jobs], metrics)


def _study(folder: Path) -> Sweep:
    try:
        from optuna.distributions import FloatDistribution, IntDistribution

        from muomni.sweep.study import load, read_spec
        from muomni.sweep.trials import trial_folder
        from muomni.sweep.worker import outcome
    except ImportError:
        raise ValueError(f"{folder} is a study of Optuna's: pip install 'muomni[sweep]'") from None
    spec = read_spec(folder)
    jobs = []
    for trial in load(folder, spec).get_trials(deepcopy=False):
        note = trial_folder(folder, trial.number) / "trial.json"
        written = read_mapping(note) if note.is_file() else {}
        steps = sorted(trial.intermediate_values)
        curve = (steps, [trial.intermediate_values[step] for step in steps])
        ended = trial.values[0] if trial.values else None
        jobs.append(Job(
            name=str(trial.number), values=dict(trial.params), outcome=outcome(trial), value=ended, folder=note.parent,
            reason=trial.user_attrs.get("reason", ""), seconds=written.get("seconds"), curve=curve,
        ))  # fmt: skip
    numeric = {
        key: each for key, each in spec.distributions.items() if isinstance(each, FloatDistribution | IntDistribution)
    }
    log = frozenset(key for key, each in numeric.items() if each.log)
    return Sweep(folder=folder, metric=spec.monitor, lower=spec.mode == "min", jobs=jobs, wanted=spec.trials, log=log)


def _multirun(folder: Path, runs: Sequence[Run], metrics: Sequence[str]) -> Sweep:
    scored = {run.folder: run.score for run in runs}
    # That of most jobs: one may lack what the others measured.
    judged = Counter(found[0] for found in scored.values() if found)
    metric = judged.most_common(1)[0][0] if judged else f"{runs[0].stage}/val/loss"
    for name in metrics:
        if not any(_measured(run, name) for run in runs):
            raise ValueError(f"metrics={name}: no job of {folder} has it; a metric is SPLIT/NAME, as test/cer")
    words = {run.folder: _words(run.folder) for run in runs}
    shared = set.intersection(*(set(each.items()) for each in words.values()))
    jobs = []
    for run in runs:
        name, found = run.folder.relative_to(folder).as_posix(), scored[run.folder]
        values = {key: _plain(text) for key, text in words[run.folder].items() if (key, text) not in shared}
        outcome = {"finished": "complete", "unfinished": "running"}.get(run.state, run.state)
        jobs.append(Job(
            name=name, values=values, outcome=outcome, value=found[1] if found and found[0] == metric else None,
            reason=run.failed or "", seconds=sum(run.read.journal.get("seconds", {}).values()) or None, folder=run.folder,
            curve=run.read.curves.get(f"{run.stage}/val/loss", ([], [])), more={name: _measured(run, name) for name in metrics},
        ))  # fmt: skip
    return Sweep(folder=folder, metric=metric, lower=mode_of(metric) != "max", jobs=jobs, wanted=len(jobs))


def _measured(run: Run, name: str) -> str:
    """A metric of a run, with its interval where it has one; nothing where it has not been measured."""
    key = name if name.count("/") > 1 else f"{run.stage}/{name}"
    value, ends = run.metrics.get(key), [run.metrics.get(f"{key}_{end}") for end in tables.INTERVAL]
    if value is None:
        return ""
    known = [number(end) for end in ends if end is not None]
    return number(value) + (f" ({known[0]} to {known[1]})" if len(known) == 2 else "")


def _words(folder: Path) -> dict[str, str]:
    """The overrides of a job: option -> text."""
    words = read_words(folder / ".hydra" / "overrides.yaml")
    return {word.partition("=")[0].lstrip("+"): word.partition("=")[2] for word in words}


def _plain(text: str) -> Any:
    """The value of an override; one in Hydra's own grammar stays text."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def importance(sweep: Sweep) -> dict[str, float] | str:
    """Option -> share of the differences between good and other jobs that it explains; a sentence where that cannot be said."""
    try:
        import optuna
    except ImportError:
        return "Importance is estimated by Optuna: pip install 'muomni[sweep]'."
    there = [
        job for job in sweep.jobs if job.value is not None and job.outcome == "complete" and math.isfinite(job.value)
    ]
    options = [key for key in sweep.options if len({repr(job.values.get(key)) for job in there}) > 1]
    options = [key for key in options if all(key in job.values for job in there)]
    if len(there) < LEAST_TRIALS or len({job.value for job in there}) < 2 or not options:
        return f"Importance needs {LEAST_TRIALS} complete jobs with different values."
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    spaces = {key: distribution([job.values[key] for job in there], log=key in sweep.log) for key in options}
    study = optuna.create_study(direction="minimize" if sweep.lower else "maximize")
    for job in there:
        values = {key: job.values[key] if is_numeric(spaces[key]) else str(job.values[key]) for key in options}
        study.add_trial(optuna.trial.create_trial(params=values, distributions=spaces, value=job.value))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: value for key, value in found.items() if math.isfinite(value)}


def seeds_table(sweep: Sweep) -> list[list[Any]]:
    """Mean, spread and number of the metric for each set of values, where the jobs have several seeds."""
    groups: dict[str, list[Job]] = {}
    for job in sweep.jobs:
        if any(key in job.values for key in SEEDS) and job.value is not None:
            words = [f"{key}={value}" for key, value in job.values.items() if key not in SEEDS]
            groups.setdefault(" ".join(words) or "all", []).append(job)
    rows: list[list[Any]] = []
    for setting, jobs in groups.items():
        summary = Summary(tuple(job.value for job in jobs if job.value is not None))
        seeds = ", ".join(str(job.values[key]) for job in jobs for key in SEEDS if key in job.values)
        rows.append([setting, summary.mean, summary.spread, summary.n, seeds])
    return sorted(rows, key=lambda row: row[1] if sweep.lower else -row[1])


def write_sweep(sweep: Sweep, out: Path, *, command: str) -> Path:
    """Write sweep.html, sweep.md and the charts that it links to into `out`; return the HTML file."""
    out.mkdir(parents=True, exist_ok=True)
    page = Page(f"Sweep {sweep.folder.name}")
    lines = [f"# {page.title}\n", *(f"{line}\n" for line in head(sweep, command))]
    page.add(*(html.paragraph(line) for line in head(sweep, command)))
    ordered = sorted(sweep.jobs, key=lambda job: (job.outcome != "complete", sweep.order(job), len(job.name), job.name))
    further = list(dict.fromkeys(name for job in sweep.jobs for name in job.more))
    header = ["job", "outcome", sweep.metric, *further, *sweep.options, "seconds", "reason"]
    rows = [[job.name, job.outcome, _rounded(job.value), *(job.more.get(name, "") for name in further),
             *(_rounded(job.values.get(key)) for key in sweep.options), job.seconds, job.reason] for job in ordered]  # fmt: skip
    seeds = seeds_table(sweep)
    if seeds:
        seed_header = ["setting", f"{sweep.metric}, mean", "spread (max - min)", "n", "seeds"]
        page.heading("Seeds")
        page.add(html.table(seed_header, seeds))
        lines += ["## Seeds\n", tables.table(seed_header, seeds)]
    page.heading("Jobs", "The best first.")
    page.add(html.table(header, rows, best=0 if sweep.best else None))
    lines += ["## Jobs\n", tables.table(header, rows)]
    for title, name, note, chart in charts(sweep):
        page.heading(title, note)
        page.add(html.figure("", chart))
        lines += [f"## {title}\n", note + "\n" if note else ""]
        if chart:
            file = out / "charts" / f"{name}.svg"
            file.parent.mkdir(exist_ok=True)
            write_text(file, chart)
            lines.append(f"![{title}](charts/{file.name})\n")
    write_text(out / "sweep.md", "\n".join(line for line in lines if line))
    write_text(out / "sweep.html", page.html())
    return out / "sweep.html"


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) and math.isfinite(value) else value


def head(sweep: Sweep, command: str) -> list[str]:
    """What the sweep is, and how it ended."""
    counts: dict[str, int] = {}
    for job in sweep.jobs:
        counts[job.outcome] = counts.get(job.outcome, 0) + 1
    ended = ", ".join(f"{count} {name}" for name, count in counts.items())
    better = "lower" if sweep.lower else "higher"
    lines = [f"{len(sweep.jobs)} of {sweep.wanted} jobs: {ended}. Judged by {sweep.metric}, {better} is better."]
    if sweep.best is not None and sweep.best.value is not None:
        words = " ".join(f"{key}={_rounded(value)}" for key, value in sweep.best.values.items())
        lines.append(
            f"Best is job {sweep.best.name}: {number(sweep.best.value)} with {words}. Its folder: {sweep.best.folder}"
        )
    return [*lines, f"Made by {command}"]


def charts(sweep: Sweep) -> list[tuple[str, str, str, str]]:
    """(title, file name, note, SVG) of each chart."""
    known = [job.value for job in sweep.jobs if job.value is not None and math.isfinite(job.value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)

    def share(job: Job) -> float | None:
        if job.value is None or not math.isfinite(job.value):
            return None
        good = (job.value - low) / (high - low) if high > low else 0.5
        return 1 - good if sweep.lower else good

    lines = [
        Line(
            f"job {job.name}: {job.outcome}" + ("" if job.value is None else f", {number(job.value)}"),
            [*(job.values.get(key) for key in sweep.options), job.value], share(job),
        )
        for job in sweep.jobs
    ]  # fmt: skip
    log = [*(key in sweep.log for key in sweep.options), False]
    coordinates = (
        parallel_coordinates([*sweep.options, sweep.metric], lines, log=log) if sweep.options and lines else ""
    )
    found = importance(sweep)
    bars, why = (
        ("", found)
        if isinstance(found, str)
        else (bar_chart(list(found.items())), "Shares of what sets good jobs apart, by PED-ANOVA.")
    )
    ranked = sorted(sweep.jobs, key=sweep.order)
    curves = [Series(f"job {job.name} ({job.outcome})", index, *job.curve, markers=len(job.curve[0]) < 40)
              for index, job in enumerate(ranked) if job.curve[0]]  # fmt: skip
    return [
        ("Parallel coordinates", "parallel", "The darker, the better; dashed: no value.", coordinates),
        ("Importance of options", "importance", why, bars),
        ("Validation curves", "curves", "" if curves else "No job has validated.",
         line_chart(curves, x="steps", y="validation", width=900, height=380)),
    ]  # fmt: skip
