"""Markdown tables of metrics, goals, run times and samples."""

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from muomni.report.collect import StageRun
from muomni.report.goals import Goal
from muomni.report.run_files import Row

#: Suffixes of baselines, `<metric>_<suffix>`: the same metric on uninformative inputs, or at another time.
COMPARISONS = ("majority", "blind", "shuffled", "typed", "before", "pairs")
#: Suffixes of the bounds of the 95 % interval.
INTERVAL = ("low", "high")
#: Suffixes of what spreads over the sentences of a split: of their own rates, not of the corpus'.
SPREAD = ("mean", "median", "capped")

#: Versions of a sentence, one column each.
VERSIONS = ("recorded", "griffin_lim", "vocoder", "codec", "spoken")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; the first column is left-aligned text."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell(value) for value in line) + " |" for line in lines) + "\n"


def cell(value: Any) -> str:
    """A table cell, escaped so that it ends neither cell nor row."""
    if value is None:
        return ""
    text = number(value) if isinstance(value, float | int) and not isinstance(value, bool) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def quoted(text: Any) -> str:
    """Text of a model or a person, escaped for Markdown and HTML."""
    return re.sub(r"([\\`*_{}\[\]<>#~])", r"\\\1", str(text))


def number(value: float) -> str:
    """Format a number: two decimals, more for small ones, none for integers; nan and inf as they are."""
    if not math.isfinite(value):
        return str(float(value))
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.2f}"


def metrics_table(metrics: Mapping[str, float], stage: str) -> str:
    """A stage's metrics by split, each with its interval, its spread and its baselines."""
    prefix = f"{stage}/"
    names = [name for name in sorted(metrics) if name.startswith(prefix)]
    compared = {f"{name}_{suffix}": suffix for name in names for suffix in COMPARISONS + INTERVAL + SPREAD}
    compared = {name: suffix for name, suffix in compared.items() if name in metrics}
    used = [suffix for suffix in SPREAD + COMPARISONS if suffix in compared.values()]
    spread = all(suffix in compared.values() for suffix in INTERVAL)
    rows: list[list[Any]] = []
    for name in (name for name in names if name not in compared):
        _, split, metric = name.split("/", 2)
        ends = [number(metrics[f"{name}_{end}"]) for end in INTERVAL if f"{name}_{end}" in metrics]
        baselines = (metrics.get(f"{name}_{suffix}") for suffix in used)
        rows.append([split, metric, metrics[name], *[" to ".join(ends)] * spread, *baselines])
    return table(["split", "metric", "value", *["95 %"] * spread, *used], rows)


def goals_table(
    goals: Sequence[Goal], metrics: Mapping[str, float], column: str, *,
    seeds: Mapping[str, Sequence[Mapping[str, float]]],
) -> tuple[str, int, int]:  # fmt: skip
    """The goals with the measured values; the number reached, and their total.

    seeds: by stage the metrics of its runs that differ by their seed. Of several the worst value is shown, and what it lacks."""
    rows, reached = [], 0
    most = max((len(each) for each in seeds.values()), default=1)
    other = {"quick": "demo", "demo": "full"}.get(column, "demo")
    for goal in goals:
        sign = "<=" if goal.lower else ">="
        bounds = [f"{sign} {number(goal.targets[c])}" if c in goal.targets else "-" for c in (column, other)]
        value = goal.value(metrics)
        if column not in goal.targets:
            verdict = "no goal"
        elif value is None:
            verdict = "**not measured**"
        else:
            missing = goal.shortfall(value, column)
            verdict = f"**missed by {number(missing)}**" if missing else "reached"
            reached += not missing
        worst, number_of_seeds = worst_of(goal, seeds.get(goal.stage, ()))
        if worst not in (None, value) and column in goal.targets and (short := goal.shortfall(worst, column)):
            verdict += f", worst missed by {number(short)}"
        fewer = f"{number(worst)} (of {number_of_seeds})" if worst is not None and number_of_seeds < most else worst
        rows.append([goal.stage, goal.what, value, *[fewer] * (most > 1), *bounds, verdict])
    shown = [f"worst of {most} seeds"] * (most > 1)
    header = ["stage", "metric", "measured", *shown, f"goal ({column})", f"goal ({other})", "verdict"]
    return table(header, rows), reached, sum(column in goal.targets for goal in goals)


def worst_of(goal: Goal, seeds: Sequence[Mapping[str, float]]) -> tuple[float | None, int]:
    """The worst value of a goal over seeds, None where fewer than two measured it, and how many did. No number is the worst."""
    values = [value for metrics in seeds if (value := goal.value(metrics)) is not None]
    return max(values, key=goal.badness) if len(values) > 1 else None, len(values)


def times_table(runs: Sequence[StageRun]) -> str:
    """Run times, steps and sizes."""
    rows: list[list[Any]] = []
    for run in runs:
        seconds = run.journal.get("seconds", {})
        counts = [run.journal.get(key) for key in ("steps", "parameters", "parameters_trained")]
        rows.append([run.stage, *counts, seconds.get("fit"), seconds.get("test"), run.journal.get("precision")])
    return table(["stage", "steps", "parameters", "trained", "fit, s", "test, s", "precision"], rows)


def minutes_of_training(runs: Sequence[StageRun]) -> float | None:
    """Minutes in which at least one stage was trained or tested: parallel stages count once.

    None if a run did not record its times.
    """
    spans = []
    for run in runs:
        if "started" not in run.journal or "seconds" not in run.journal:
            return None
        start = datetime.datetime.fromisoformat(run.journal["started"]).timestamp()
        spans.append((start, start + sum(run.journal["seconds"].values())))
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total / 60


def questions_table(samples: Sequence[Row], links: Mapping[str, str]) -> str:
    """Samples with question, answer and truth; images are shown, audio is linked.

    links: name of a media file in the run's samples -> link from the page.
    """
    rows = []
    for sample in samples:
        media = ""
        if "image" in sample:
            media = f"![{sample['id']}]({links[sample['image']]})"
        elif "audio" in sample:
            media = f"[sound]({links[sample['audio']]})"
        question = sample.get("question", sample.get("text", ""))
        answer, truth = str(sample.get("answer", "")), str(sample.get("truth", ""))
        right = "yes" if answer.strip() == truth.strip() else "no"
        texts = [quoted(text) for text in (question, answer, truth)]
        rows.append([sample["split"], media, *texts, right if truth else ""])
    return table(["split", "input", "question", "answer", "truth", "same"], rows)


def sounds_table(samples: Sequence[Row], links: Mapping[str, str]) -> str:
    """The versions of the same sentences in columns, each with the judges' transcripts, and error rates by the own one."""
    names = [name for name in VERSIONS if any(s.get("kind") == name for s in samples)]
    sentences: dict[tuple[str, str], dict[str, Row]] = {}
    for sample in samples:
        if sample.get("kind") in names and "audio" in sample:
            sentences.setdefault((sample["split"], sample["id"]), {})[sample["kind"]] = sample
    rows = []
    for versions in sentences.values():
        first = next(iter(versions.values()))
        cells = [quoted(first.get("truth", first.get("text", "")))]
        for name in names:
            version = versions.get(name)
            cells.append("" if version is None else _version(version, links))
        rows.append(cells)
    return table(["sentence", *names], rows)


def _version(sample: Row, links: Mapping[str, str]) -> str:
    rates = [f"{name.upper()} {number(sample[name])} %" for name in ("cer", "wer") if name in sample]
    heard = f'heard "{quoted(sample["answer"])}"' if "answer" in sample else ""
    whisper = f'by Whisper "{quoted(sample["whisper"])}"' if "whisper" in sample else ""
    return ", ".join(part for part in (f"[wav]({links[sample['audio']]})", heard, *rates, whisper) if part)
