"""Composes the report: report.md, index.html, metrics.json, curves, images and audio, and questions to answer live."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from muomni.checkpoints.atomic_write import write_text
from muomni.report import tables
from muomni.report.ask import write_questions
from muomni.report.collect import OPTIONAL, STAGES, StageRun, newest_run
from muomni.report.curves import draw_curves
from muomni.report.goals import COLUMNS, read_goals
from muomni.report.index import write_index
from muomni.report.run_files import Row
from muomni.report.trainings import find_trainings, metrics_of_seeds, roots_of

#: The section of the page that is written by hand, up to its end.
BY_HAND = "\n## Real data\n"
#: Maximum rows of samples for each stage.
SHOWN_QUESTIONS = 24
SHOWN_SENTENCES = 6
#: The page to listen to, in the folder of the report.
LISTEN = "listen.html"
#: Small images are shown at least about this large, in pixels.
SHOWN_PIXELS = 160


def write_report(*, runs: Path, out: Path, page: Path, budget: str, data: str, command: str) -> dict[str, Any]:
    """Write the report of the newest finished runs.

    out: folder of index.html, metrics.json and media; replaces those of an earlier report. page: the Markdown file, with links
    into `out`.
    Returns {"reached", "goals", "missing": stages without a finished run}. Raises FileNotFoundError when there is no run.
    """
    found = {stage: newest_run(runs, stage, budget=budget, data=data) for stage in STAGES}
    have = [run for run in found.values() if run is not None]
    missing = [stage for stage, run in found.items() if run is None and stage not in OPTIONAL]
    if not have:
        raise FileNotFoundError(f"no finished run with budget={budget} on data={data} under {runs}; see budget=, root=")
    metrics = {name: value for run in have for name, value in run.metrics.items()}
    shutil.rmtree(out / "samples", ignore_errors=True)
    for stage in STAGES:
        (out / f"{stage}.png").unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    page.parent.mkdir(parents=True, exist_ok=True)
    column = budget if budget in COLUMNS else "demo"
    wanted = [goal for goal in read_goals() if found[goal.stage] is not None or goal.stage not in OPTIONAL]
    trainings = find_trainings(roots_of(runs.parent), budget=budget, data=data)
    seeds = {run.stage: metrics_of_seeds(run, trainings) for run in have}
    goals, reached, number_of_goals = tables.goals_table(wanted, metrics, column, seeds=seeds)
    sections = [
        _head(have, missing, budget=budget, data=data, command=command),
        f"## Goals\n\n{reached} of {number_of_goals} goals reached (column `{column}`).\n\n{goals}",
    ]
    (out / LISTEN).unlink(missing_ok=True)
    sections += [_stage(run, out, page.parent) for run in have]
    sounding = [run for run in have if choose(run.samples, versions=True, limit=1)]
    if sounding:
        from muomni.report.listen import write_listening  # reads recordings: torch, which the rest does not need

        listen = write_listening(sounding, out / LISTEN, command=command)
        sections.append(
            f"## Listening\n\nVersions of each sentence side by side, with waveforms, mels, words over time and what both "
            f"judges wrote: [{LISTEN}]({_link(listen, page.parent)})\n"
        )
    sections.append(f"## Times\n\n{_machine(have)}\n\n{tables.times_table(have)}\n{_total(have)}")
    write_text(out / "metrics.json", json.dumps(dict(sorted(metrics.items())), indent=2) + "\n")
    write_text(page, "\n".join(sections) + _by_hand(page))
    write_index(have, wanted, out, budget=budget, column=column, command=command, seeds=seeds)
    if (omni := found["omni_sft"]) is not None:
        write_questions(omni, out)
    return {"reached": reached, "goals": number_of_goals, "missing": missing}


def _by_hand(page: Path) -> str:
    """What an earlier page says of real data, which no run of the world measures: written by hand, and kept."""
    text = page.read_text() if page.is_file() else ""
    start = text.find(BY_HAND)
    return text[start:] if start >= 0 else ""


def _head(have: Sequence[StageRun], missing: Sequence[str], *, budget: str, data: str, command: str) -> str:
    lines = [
        f"# Report card: budget={budget}\n",
        "What the newest finished run of each stage measured on held-out splits. Every name is explained in "
        "docs/metrics.md. Rates are in percent, each compared with the same number where the model could not know: "
        "`majority` always gives the most common answer, `blind` gets no image or audio, `shuffled` another item's.\n",
        f"Made by `{command}`, after:\n",
    ]
    for run in have:
        size, seed, config = run.config.get("size"), run.config.get("seed"), run.config.get("data", {})
        world = f", world preset {config.get('preset')} seed {config.get('seed')}" if data == "world" else ""
        started = run.journal.get("started", run.folder.name)
        lines.append(f"- {run.stage}: size={size} seed={seed}{world}, run of {started}")
    if missing:
        lines.append(f"\n**Missing: {', '.join(missing)}** - no finished run with budget={budget} on data={data}.")
    return "\n".join(lines) + "\n"


def _machine(have: Sequence[StageRun]) -> str:
    """The machines that the runs recorded."""
    machines = {json.dumps(run.journal["machine"], sort_keys=True) for run in have if "machine" in run.journal}
    described = []
    for text in sorted(machines):
        machine: Row = json.loads(text)
        described.append(
            f"{machine['processor']}, {machine['cores']} cores ({machine['threads']} threads used), "
            f"{machine['memory_gib']} GiB, GPU {machine['gpu']}; Python {machine['python']}, torch {machine['torch']}"
        )
    return "; ".join(described) or "The runs left no note of their machine."


def _total(have: Sequence[StageRun]) -> str:
    minutes = tables.minutes_of_training(have)
    if minutes is None:
        return ""
    return (
        f"Training and testing: {minutes:.1f} minutes, stages that ran side by side counted once; "
        "making and reading data and installing come on top.\n"
    )


def _stage(run: StageRun, out: Path, base: Path) -> str:
    """A stage's section: metrics, curves, samples."""
    sections = [f"## {run.stage}\n", tables.metrics_table(run.metrics, run.stage)]
    curves = out / f"{run.stage}.png"
    if draw_curves(run, curves):
        sections.append(f"![loss of {run.stage}]({_link(curves, base)})\n")
    questions = choose(run.samples, versions=False, limit=SHOWN_QUESTIONS)
    if questions:
        sections.append(f"### Samples\n\n{tables.questions_table(questions, _copy(run, questions, out, base))}")
    sounds = choose(run.samples, versions=True, limit=SHOWN_SENTENCES * len(tables.VERSIONS))
    if sounds:
        sections.append(f"### Sounds\n\n{_vocoder(run)}{tables.sounds_table(sounds, _copy(run, sounds, out, base))}")
    return "\n".join(sections)


def _vocoder(run: StageRun) -> str:
    """A sentence on the vocoder in use; the stage that trains a vocoder shows both."""
    made: Row = run.config.get("vocoder") or {}
    if run.stage == "vocoder" or "_target_" not in made:
        return ""
    name = "Griffin-Lim" if made["_target_"].endswith("GriffinLim") else "the vocoder of stage=vocoder"
    return f"Made audible by {name}.\n\n"


def choose(samples: Sequence[Row], *, versions: bool, limit: int) -> list[Row]:
    """Samples that are versions of a sentence (`versions`) or the others, at most `limit`, an even share of each split."""
    chosen = [sample for sample in samples if (sample.get("kind") in tables.VERSIONS) == versions]
    splits = list(dict.fromkeys(sample["split"] for sample in chosen))
    if not splits:
        return []
    share = max(1, limit // len(splits))
    return [sample for split in splits for sample in [s for s in chosen if s["split"] == split][:share]]


def _copy(run: StageRun, samples: Sequence[Row], out: Path, base: Path) -> dict[str, str]:
    """Copy the media of samples into the report; name in the run -> link from the page."""
    links = {}
    for sample in samples:
        for key in ("image", "audio"):
            if key in sample:
                target = out / "samples" / f"{run.stage}-{sample[key]}"
                target.parent.mkdir(exist_ok=True)
                copy = _copy_image if key == "image" else shutil.copyfile
                copy(run.folder / "samples" / sample[key], target)
                links[sample[key]] = _link(target, base)
    return links


def _copy_image(source: Path, target: Path) -> None:
    """Copy an image, a small one enlarged by an integer factor."""
    with Image.open(source, formats=("PNG",)) as image:
        factor = max(1, SHOWN_PIXELS // max(image.size))
        image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST).save(target)


def _link(path: Path, base: Path) -> str:
    return Path(os.path.relpath(path, base)).as_posix()
