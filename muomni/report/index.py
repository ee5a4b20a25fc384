"""index.html next to the report card: one file to open first, without a network. The conversation with its pictures and sounds,
the goals with the worst and best of all seeds, curves, and samples by success and by failure."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from muomni.checkpoints.atomic_write import write_text
from muomni.report import html
from muomni.report.collect import StageRun
from muomni.report.goals import Goal
from muomni.report.html import Page, Raw
from muomni.report.run_files import Row
from muomni.report.svg import Series, line_chart
from muomni.report.tables import VERSIONS, number

#: Of the conversation: the task of a sample, how many of it, and what it is called.
TURNS = (
    ("image_qa", 5, "a picture"), ("caption", 1, "a picture"), ("audio_qa", 1, "a recording"), ("asr", 1, "a recording"),
    ("text_qa", 3, "text"), ("spoken_image_qa", 2, "a picture, and a spoken question"), ("tts", 1, "to say something"),
)  # fmt: skip
MOST_SAMPLES = 12  # of a stage that are right, and that are wrong
MOST_MEDIA = 3_000_000

STYLE = """
.turns { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 14px; }
.turn { border: 1px solid #ddd; border-radius: 10px; padding: 10px 12px; }
.turn h3 { font-size: 13px; color: #555; margin: 0 0 6px; }
.turn img { width: 160px; display: block; margin-bottom: 6px; border-radius: 4px; } .turn audio { width: 100%; height: 36px; }
.question { background: #eef2f6; border-radius: 10px 10px 10px 2px; padding: 6px 10px; margin: 4px 30px 4px 0; }
.answer { border-radius: 10px 10px 2px 10px; padding: 6px 10px; margin: 4px 0 4px 30px; overflow-wrap: anywhere; }
.yes { background: #e1f1e5; } .no { background: #fbe6dd; } .verdict-yes { color: #1c6b32; } .verdict-no { color: #a33a00; }
td img { width: 80px; } details { margin: 6px 0 14px; } summary { cursor: pointer; font-weight: 600; }
"""


def write_index(
    runs: Sequence[StageRun], goals: Sequence[Goal], out: Path, *, budget: str, column: str, command: str,
    seeds: Mapping[str, Sequence[Mapping[str, float]]],
) -> Path:  # fmt: skip
    """Write `out`/index.html. seeds: by stage the metrics of all its runs that differ by their seed, the newest run's first."""
    page = Page(f"What the model of budget={budget} can do", media=MOST_MEDIA, style=html.STYLE + STYLE)
    page.add(html.paragraph(f"Made by {command}. Names of metrics: docs/metrics.md; every number: report.md."))
    for run in runs:
        if run.stage == "omni_sft":
            _conversation(page, run)
    _goals(page, runs, goals, column, seeds)
    charts = [html.figure(f"{run.stage}: loss", _curves(run)) for run in runs]
    if any(charts):
        page.heading(
            "Curves", "Training and held-out loss by step; green: the entropy floor, below which no model comes."
        )
        page.add(f'<div class="charts">{"".join(charts)}</div>')
    page.heading("Samples", "Held-out ones, a few of each split: what went right, and what went wrong.")
    for run in runs:
        _samples(page, run)
    write_text(out / "index.html", page.html())
    return out / "index.html"


def is_right(sample: Row) -> bool:
    """Whether an answer is the truth, letter by letter."""
    return str(sample.get("answer", "")).strip() == str(sample.get("truth", "")).strip()


def _conversation(page: Page, run: StageRun) -> None:
    """Questions of every sort and their answers, the first of each type: not chosen by success."""
    page.heading("The conversation", "The first held-out sample of each type of question, whether it went well or not.")
    spoken = {str(sample.get("truth")): sample for sample in run.samples if sample.get("kind") == "spoken"}
    turns = []
    for task, count, title in TURNS:
        kinds: dict[str, Row] = {}
        for sample in run.samples:
            if sample.get("task") == task and sample.get("kind") not in VERSIONS:
                kinds.setdefault(str(sample.get("kind")), sample)
        for sample in list(kinds.values())[:count]:
            turns.append(_turn(page, run, sample, title, spoken.get(str(sample.get("truth")))))
    page.add(f'<div class="turns">{"".join(turns)}</div>')


def _turn(page: Page, run: StageRun, sample: Row, title: str, voice: Row | None) -> str:
    """A question with its picture or sound, and the answer; voice: the sample in which it is spoken."""
    media = "".join(_media(page, run, sample))
    question, answer, truth = (escape(str(sample.get(key, ""))) for key in ("question", "answer", "truth"))
    right = is_right(sample)
    correction = "" if right else f' <span class="note">(true answer: {truth})</span>'
    sound = "".join(_media(page, run, voice)) if voice is not None and sample.get("task") == "tts" else ""
    return (
        f'<div class="turn"><h3>{escape(title)}</h3>{media}<div class="question">{question}</div>'
        f'<div class="answer {"yes" if right else "no"}">{answer or "<i>nothing</i>"}{correction}{sound}</div></div>'
    )


def _media(page: Page, run: StageRun, sample: Row) -> list[str]:
    return [page.embed(run.folder / "samples" / str(sample[key])) for key in ("image", "audio") if key in sample]


def _goals(
    page: Page, runs: Sequence[StageRun], goals: Sequence[Goal], column: str,
    seeds: Mapping[str, Sequence[Mapping[str, float]]],
) -> None:  # fmt: skip
    measured = {name: value for run in runs for name, value in run.metrics.items()}
    rows, reached, number_of_goals = [], 0, 0
    for goal in (each for each in goals if column in each.targets):
        value = goal.value(measured)
        all_values = [v for metrics in seeds.get(goal.stage, ()) if (v := goal.value(metrics)) is not None]
        low, high = (min(all_values), max(all_values)) if len(all_values) > 1 else (None, None)
        worst, best = (high, low) if goal.lower else (low, high)
        missing = None if value is None else goal.shortfall(value, column)
        word = "not measured" if missing is None else f"missed by {number(missing)}" if missing else "reached"
        verdict = Raw(f'<span class="verdict-{"yes" if missing == 0 else "no"}">{word}</span>')
        target = f"{'≤' if goal.lower else '≥'} {number(goal.targets[column])}"
        rows.append([goal.stage, goal.what, value, worst, best, target, verdict])
        reached, number_of_goals = reached + (missing == 0), number_of_goals + 1
    count = max((len(each) for each in seeds.values()), default=1)
    page.heading(
        f"Goals: {reached} of {number_of_goals} reached",
        f"Worst and best: of the runs with other seeds too, at most {count} a stage.",
    )
    page.add(html.table(["stage", "what", "measured", "worst", "best", f"goal ({column})", ""], rows))


def _curves(run: StageRun) -> str:
    """The loss in training and held out, and the floor."""
    found = [(name, run.curves.get(f"{run.stage}/{name}/loss")) for name in ("train", "val")]
    series = [
        Series("held out" if name == "val" else "training", index, *curve, markers=name == "val")
        for index, (name, curve) in enumerate(found)
        if curve is not None
    ]
    floor = run.metrics.get(f"{run.stage}/test/floor")
    if series and floor is not None:
        steps = [step for each in series for step in each.xs]
        series.append(Series("entropy floor", 2, [min(steps), max(steps)], [floor, floor]))
    return line_chart(series, x="step", y="loss", width=430, height=240)


def _samples(page: Page, run: StageRun) -> None:
    """Two tables of a stage: the samples that are right, and the others."""
    judged = [each for each in run.samples if each.get("kind") not in VERSIONS and "truth" in each and "answer" in each]
    if not judged:
        return
    right = [each for each in judged if is_right(each)]
    wrong = [each for each in judged if not is_right(each)]
    page.add(f"<h3>{escape(run.stage)}: {len(right)} right, {len(wrong)} wrong</h3>")
    for title, samples in (("wrong", wrong), ("right", right)):
        if samples:
            rows = [
                [
                    each.get("split"), Raw("".join(_media(page, run, each))), each.get("question", each.get("text", "")),
                    each["answer"], each["truth"],
                ]
                for each in samples[:MOST_SAMPLES]
            ]  # fmt: skip
            shown = html.table(["split", "input", "question", "answer", "truth"], rows)
            more = f" (the first {MOST_SAMPLES} of {len(samples)})" if len(samples) > MOST_SAMPLES else ""
            page.add(f"<details open><summary>{title}{more}</summary>{shown}</details>")
