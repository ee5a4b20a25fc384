"""python -m muomni.report compare RUN RUN ..: runs side by side, as one HTML file and as Markdown.

A RUN is a run folder, or the folder of a sweep, which stands for its jobs. Runs that differ by their seed alone are one column of
the metrics: mean, spread, number.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from muomni.checkpoints.atomic_write import write_text
from muomni.report import html, tables
from muomni.report.curves import smooth
from muomni.report.html import Page, Raw
from muomni.report.runs import AXES, SEEDS, Run, differences
from muomni.report.seeds import Group, Summary, group_by_seed, labels_of
from muomni.report.svg import Series, line_chart
from muomni.report.tables import INTERVAL, number
from muomni.run.monitors import mode_of

#: Charts of a page, and samples side by side.
MOST_CHARTS, MOST_SAMPLES = 9, 24
#: Rates and shares of a training that say how well it used the machine: column -> its name.
EFFICIENCY = {
    "tokens_per_second": "tokens/s", "samples_per_second": "samples/s", "images_per_second": "images/s",
    "audio_seconds_per_second": "audio s/s", "mfu": "MFU, %", "data_wait_share": "waiting for data",
    "padding_share": "padding, %", "peak_memory_mib": "peak memory, MiB",
}  # fmt: skip


def write_comparison(runs: Sequence[Run], out: Path, *, command: str) -> Path:
    """Write compare.html, compare.md and the charts that it links to into `out`; return the HTML file.

    Raises ValueError for fewer than two runs, and for runs without a metric in common."""
    if len(runs) < 2:
        raise ValueError(f"{runs[0].folder if runs else 'nothing'}: a comparison needs two runs or more")
    common = set.intersection(*({*run.metrics, *run.read.curves} for run in runs))
    if not common - {"lr"}:
        stages = ", ".join(dict.fromkeys(run.stage for run in runs))
        raise ValueError(f"these runs (stage={stages}) have no metric in common: compare runs of one stage")
    groups = group_by_seed(runs)
    labels = run_labels(runs, groups)
    page = Page(f"Comparison of {len(runs)} runs")
    page.add(html.paragraph(f"Made by {command}"))
    lines = [
        f"# {page.title}\n",
        f"Made by `{command}`. Curves to choose from, sounds and images: [compare.html](compare.html)\n",
    ]
    out.mkdir(parents=True, exist_ok=True)
    for title, note, header, rows in (
        ("Runs", "", *runs_table(runs, labels)),
        ("Metrics", METRICS_NOTE, *metrics_table(groups)),
        ("Differences of the configuration", "Seeds, folders and loggers are left out.", *options_table(groups)),
        ("Efficiency", "Medians over the logging intervals of the training.", *efficiency_table(runs, labels)),
    ):
        page.heading(title, note)
        page.add(html.table(header, rows) if rows else html.paragraph("none"))
        lines += [f"## {title}\n", note + "\n" if note else "", tables.table(header, rows) if rows else "none\n"]
        if title == "Metrics":
            lines += curves_section(page, runs, labels, out)
    samples_section(page, runs, labels)
    write_text(out / "compare.md", "\n".join(line for line in lines if line))
    write_text(out / "compare.html", page.html())
    return out / "compare.html"


METRICS_NOTE = (
    "Mean over the seeds, with its spread (max - min) and their number n; of one run the 95 % interval over the test samples, "
    "where it was measured. The last columns compare with the first setting: yes where the difference is larger than the larger "
    "spread of the two, or where the intervals of single runs do not overlap."
)


def run_labels(runs: Sequence[Run], groups: Sequence[Group]) -> list[str]:
    """A name for each run: that of its group, with its seed where the group has several."""
    names = {}
    for group in groups:
        for run in group.runs:
            names[run.folder] = f"{group.label} seed={run.seed}" if len(group.runs) > 1 else group.label
    found = [names[run.folder] for run in runs]
    return found if len(set(found)) == len(found) else labels_of(runs, most=0)


Table = tuple[list[str], list[list[Any]]]


def runs_table(runs: Sequence[Run], labels: Sequence[str]) -> Table:
    """What was run, by which command."""
    rows = []
    for run, label in zip(runs, labels, strict=True):
        journal = run.read.journal
        state = run.failed or run.state
        rows.append([label, run.stage, run.seed, journal.get("steps"), state, journal.get("started"), str(run.folder),
                     journal.get("command")])  # fmt: skip
    return ["run", "stage", "seed", "steps", "state", "started", "folder", "command"], rows


def options_table(groups: Sequence[Group]) -> Table:
    """Options that are not the same in all groups."""
    settings = [{key: value for key, value in group.runs[0].options.items() if key not in SEEDS} for group in groups]
    rows = [[key, *(shown_option(value) for value in values)] for key, values in differences(settings).items()]
    return ["option", *(group.label for group in groups)], rows if len(groups) > 1 else []


def shown_option(value: Any) -> Any:
    """An option's value in a cell."""
    return "null" if value is None else value if isinstance(value, str) else repr(value)


def metrics_table(groups: Sequence[Group]) -> Table:
    """Final metrics of each group, and whether they differ from the first group's."""
    names = sorted({name for group in groups for run in group.runs for name in run.metrics})
    names = [name for name in names if name.rpartition("_")[2] not in INTERVAL or name.rpartition("_")[0] not in names]
    header = [
        "metric",
        "better",
        *(group.label for group in groups),
        *(f"{group.label} differs" for group in groups[1:]),
    ]
    rows = []
    for name in names:
        better = {"min": "lower", "max": "higher"}.get(mode_of(name) or "", "")
        cells = [value_of(group, name) for group in groups]
        verdicts = [differs(groups[0], group, name) for group in groups[1:]]
        rows.append([name, better, *cells, *verdicts])
    return header, rows


def value_of(group: Group, name: str) -> str:
    """Mean, spread and number; of one run its 95 % interval."""
    summary = group.summary(name)
    if summary is None:
        return ""
    if summary.spread is not None:
        return summary.text
    ends = interval(group, name)
    return number(summary.mean) + (f" ({number(ends[0])} to {number(ends[1])})" if ends else "")


def interval(group: Group, name: str) -> tuple[float, float] | None:
    """The 95 % interval of a metric of one run."""
    ends = [group.runs[0].metrics.get(f"{name}_{end}") for end in INTERVAL]
    return (ends[0], ends[1]) if ends[0] is not None and ends[1] is not None and len(group.runs) == 1 else None


def differs(first: Group, other: Group, name: str) -> str:
    """yes, no, or nothing where it cannot be said."""
    ours, theirs = first.summary(name), other.summary(name)
    if ours is None or theirs is None or not math.isfinite(theirs.mean - ours.mean):
        return ""
    verdict = ours.differs_from(theirs)
    if verdict is None and (a := interval(first, name)) and (b := interval(other, name)):
        verdict = a[1] < b[0] or b[1] < a[0]
    return change(ours, theirs) + {True: " yes", False: " no", None: ", one seed each"}[verdict]


def change(first: Summary, other: Summary) -> str:
    """The difference of two means, with its sign."""
    difference = other.mean - first.mean
    return ("+" if difference >= 0 else "-") + number(abs(difference))


def efficiency_table(runs: Sequence[Run], labels: Sequence[str]) -> Table:
    """How well each training used its machine."""
    rows, used = [], [key for key in EFFICIENCY if any(f"{run.stage}/train/{key}" in run.read.curves for run in runs)]
    for run, label in zip(runs, labels, strict=True):
        journal, medians = run.read.journal, []
        for key in used:
            _, values = run.read.curves.get(f"{run.stage}/train/{key}", ([], []))
            known = sorted(value for value in values if math.isfinite(value))
            medians.append(known[len(known) // 2] if known else None)
        seconds, machine = journal.get("seconds", {}), journal.get("machine", {})
        where = (
            f"{machine.get('processor', '')}, {machine.get('threads', '?')} threads, GPU {machine.get('gpu', '?')}"
            if machine
            else ""
        )
        rows.append([label, journal.get("parameters"), journal.get("parameters_trained"), seconds.get("fit"), seconds.get("test"),
                     *medians, journal.get("precision"), where])  # fmt: skip
    header = [
        "run",
        "parameters",
        "trained",
        "training, s",
        "tests, s",
        *(EFFICIENCY[key] for key in used),
        "precision",
        "machine",
    ]
    return header, rows


def charted(runs: Sequence[Run]) -> list[str]:
    """Columns of metrics.csv to draw: losses first, then what validations measured."""
    columns = {name for run in runs for name, (steps, _) in run.read.curves.items() if len(steps) > 1}
    order = [
        name
        for stage in dict.fromkeys(run.stage for run in runs)
        for name in (f"{stage}/val/loss", f"{stage}/train/loss")
    ]
    rest = sorted(name for name in columns if "/val" in name and name not in order)
    extra = sorted(name for name in columns if name.endswith(("train/gradient_norm", "train/tokens_per_second")))
    return [name for name in (*order, *rest, *extra) if name in columns][:MOST_CHARTS]


def curves_section(page: Page, runs: Sequence[Run], labels: Sequence[str], out: Path) -> list[str]:
    """Curves over every axis that a run has; the Markdown shows those over steps."""
    names = charted(runs)
    axes = [axis for axis in AXES if any(run.curve(name, axis) for run in runs for name in names)]
    page.heading("Curves", curves_note(axes))
    page.add(f"<p>{html.axis_buttons(axes)}</p>", html.legend(labels), '<div class="charts">')
    lines = ["## Curves\n"]
    for axis in axes:
        for name in names:
            chart = line_chart(series_of(runs, labels, name, axis), x=axis, y=name)
            page.add(html.figure(name, chart, axis=axis, hidden=axis != axes[0]))
            if axis == axes[0] and chart:
                file = out / "charts" / f"{name.replace('/', '-')}.svg"
                file.parent.mkdir(exist_ok=True)
                write_text(file, chart)
                lines.append(f"{name}\n\n![{name}](charts/{file.name})\n")
    page.add("</div>")
    return [*lines, "Colours: " + ", ".join(f"{index + 1}. {label}" for index, label in enumerate(labels)) + "\n"]


def curves_note(axes: Sequence[str]) -> str:
    """What the axes are, and which is missing."""
    note = "Training losses are means over the last 5 % of the steps. Hours are of training, without validations where known."
    return note if "FLOPs" in axes else note + " No run logged its FLOPs (total_flops)."


def series_of(runs: Sequence[Run], labels: Sequence[str], name: str, axis: str) -> list[Series]:
    """A column of each run that has it."""
    found = []
    for index, (run, label) in enumerate(zip(runs, labels, strict=True)):
        curve = run.curve(name, axis)
        if curve is not None:
            xs, ys = curve
            ys = smooth(ys).tolist() if "/train/" in name else ys
            found.append(Series(label, index, xs, ys, markers="/val" in name and len(xs) < 40))
    return found


def samples_section(page: Page, runs: Sequence[Run], labels: Sequence[str]) -> None:
    """What the runs made of the same test samples."""
    keyed = [{(row.get("split"), row.get("id"), row.get("kind")): row for row in run.read.samples} for run in runs]
    keys = [key for key in keyed[0] if sum(key in each for each in keyed) > 1] if keyed else []
    if not keys:
        return
    page.heading(
        "Samples",
        f"{min(len(keys), MOST_SAMPLES)} of {len(keys)} that several runs were tested on, those first that differ.",
    )
    keys.sort(key=lambda key: len({str(each[key].get("answer")) for each in keyed if key in each}) == 1)
    rows: list[list[object]] = []
    for key in keys[:MOST_SAMPLES]:
        owner, row = next((run, each[key]) for run, each in zip(runs, keyed, strict=True) if key in each)
        shown = page.embed(owner.folder / "samples" / str(row["image"])) if "image" in row else ""
        question = str(row.get("question", row.get("text", "")))
        cells: list[object] = [row.get("split"), Raw(shown + html.escape(question)), row.get("truth", "")]
        for run, each in zip(runs, keyed, strict=True):
            own = each.get(key)
            sound = page.embed(run.folder / "samples" / str(own["audio"])) if own and "audio" in own else ""
            cells.append(Raw(html.escape(str(own.get("answer", ""))) + sound) if own else "")
        rows.append(cells)
    page.add(html.table(["split", "input", "truth", *labels], rows))
