"""The leaderboard: tracks with fixed budgets, and records that result files in the repository hold.

    docs/leaderboard.yaml                          tracks, each with the files of its records, the oldest first
    benchmarks/results/leaderboard/TRACK-N.json    a record: command, commit, seeds, values, hardware
    docs/leaderboard.md                            the page, made of the two

A record has three seeds or more (three runs of a benchmark, where nothing is seeded), and its mean is better than that of the
record before by more than the larger spread (max - min) of the two. Both are checked whenever the page is made.
"""

import datetime
import json
import math
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from muomni.checkpoints.atomic_write import write_text
from muomni.report.run_files import read_mapping, read_yaml
from muomni.report.runs import Run, find_runs
from muomni.report.seeds import Summary
from muomni.report.tables import number, quoted, table
from muomni.short_repr import shown

LEAST_SEEDS = 3
FOLDER = Path("benchmarks") / "results" / "leaderboard"


@dataclass(frozen=True, kw_only=True)
class Track:
    """A track. metric: of metrics.json (runs), or path: keys in a benchmark's result file. fixed: options that a run must have.
    most: numbers of run.json that it must not exceed."""

    title: str
    unit: str
    better: str
    budget: str
    command: str
    metric: str = ""
    path: list[Any] = field(default_factory=list)
    fixed: dict[str, Any] = field(default_factory=dict)
    most: dict[str, float] = field(default_factory=dict)
    records: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Record:
    """A record, as its file holds it."""

    track: str
    date: str
    commit: str
    command: str
    hardware: str
    seeds: list[Any]
    values: list[float]

    @property
    def summary(self) -> Summary:
        return Summary(tuple(self.values))


def read_tracks(file: Path) -> dict[str, Track]:
    """The tracks. Raises FileNotFoundError, or ValueError naming the track that makes no sense."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; the leaderboard is that of a checkout, give records=FILE")
    tracks = {}
    for name, given in read_yaml(file).items():
        try:
            tracks[name] = Track(**given)
        except TypeError as error:
            raise ValueError(f"{file}: track {name}: {error}") from error
        if tracks[name].better not in ("lower", "higher") or bool(tracks[name].metric) == bool(tracks[name].path):
            raise ValueError(f"{file}: track {name}: better is lower or higher, and metric or path is given")
    return tracks


def read_records(file: Path, name: str, track: Track) -> list[Record]:
    """The records of a track, checked, the oldest first. Raises ValueError naming the first that is none."""
    found: list[Record] = []
    for result in track.records:
        path = file.parent.parent / result
        if not path.is_file():
            raise FileNotFoundError(f"{file}: track {name}: {result} is not there: a record is a committed result file")
        content = read_mapping(path)
        try:
            record = Record(**{key: content[key] for key in Record.__dataclass_fields__})
        except KeyError as error:
            raise ValueError(f"{path}: no {error.args[0]!r}") from error
        check_record(record, found[-1] if found else None, track, where=f"{path}: track {name}")
        found.append(record)
    return found


def check_record(record: Record, last: Record | None, track: Track, *, where: str) -> None:
    """Raise ValueError unless there are enough seeds, all is stated, and the last record is beaten by more than the spread."""
    lacking = [key for key in ("command", "commit", "hardware", "date") if not getattr(record, key)]
    if lacking:
        raise ValueError(f"{where}: {', '.join(lacking)} not stated")
    if len(set(record.seeds)) < LEAST_SEEDS or len(record.values) != len(record.seeds):
        raise ValueError(f"{where}: {len(set(record.seeds))} seeds; a record needs {LEAST_SEEDS}")
    wrong = [value for value in record.values if not math.isfinite(value)]
    if wrong:
        raise ValueError(f"{where}: {wrong[0]} is no number to compare: a record's runs have measured it")
    if last is None:
        return
    ours, theirs = record.summary, last.summary
    gain = (theirs.mean - ours.mean) * (1 if track.better == "lower" else -1)
    spread = max(ours.spread or 0.0, theirs.spread or 0.0)
    if gain <= spread:
        how = (
            "not better than" if gain <= 0 else f"better by {number(gain)}, within the spread of {number(spread)}, than"
        )
        raise ValueError(f"{where}: {number(ours.mean)} is {how} the record of {last.date}, {number(theirs.mean)}")


def add_record(file: Path, name: str, sources: Sequence[Path], *, commit: str = "") -> Path:
    """Write a record's file and name it in the tracks; return it. sources: folders of runs, or result files of a benchmark.
    commit: that they were made with, where they do not note it; by default that of the checkout.

    Raises ValueError where it is no record, or not of this track's budget; nothing is written then."""
    tracks = read_tracks(file)
    if name not in tracks:
        raise ValueError(f"add={name}: no such track; there are {', '.join(tracks)}")
    track, earlier = tracks[name], read_records(file, name, tracks[name])
    if track.path:
        record = _of_results(name, track, sources, commit or _head())
    else:
        record = _of_runs(name, track, find_runs(list(map(str, sources))), commit)
    check_record(record, earlier[-1] if earlier else None, track, where=f"add={name}")
    result = FOLDER / f"{name}-{len(earlier) + 1}.json"
    path = file.parent.parent / result
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(asdict(record), indent=2) + "\n")
    write_text(file, _with_record(file.read_text(), name, result.as_posix()))
    return path


def _with_record(text: str, name: str, result: str) -> str:
    """The tracks' file with another record: its comments stay."""
    before, own, after = text.partition(f"\n{name}:")
    own_text, gap, others = after.partition("\n\n")
    if "\n  records: []" in own_text:
        own_text = own_text.replace("\n  records: []", f"\n  records:\n    - {result}")
    else:
        own_text = own_text.rstrip("\n") + f"\n    - {result}"
    return before + own + own_text + gap + others + ("" if text.endswith("\n") and (gap or others) else "\n")


def _of_runs(name: str, track: Track, runs: Sequence[Run], commit: str) -> Record:
    if not runs:
        raise ValueError(f"add={name}: the folders of {LEAST_SEEDS} runs are needed")
    first = runs[0]
    for run in runs:
        if track.metric not in run.metrics:
            raise ValueError(f"{run.folder}: has not measured {track.metric}")
        if run.setting != first.setting:
            raise ValueError(f"{run.folder}: differs from {first.folder} by more than its seed")
        for key, wanted in track.fixed.items():
            if run.options.get(key) != wanted:
                raise ValueError(f"{run.folder}: {key}={run.options.get(key)}; the track's budget has {key}={wanted}")
        for key, most in track.most.items():
            if run.read.journal.get(key, most + 1) > most:
                raise ValueError(
                    f"{run.folder}: {key} {run.read.journal.get(key)}; the track's budget has at most {most}"
                )
    journal = first.read.journal
    return Record(
        track=name, date=str(journal.get("started", ""))[:10], commit=commit or _commit(journal) or _head(),
        command=portable(str(journal.get("command", ""))), hardware=hardware(journal.get("machine", {})),
        seeds=[run.seed for run in runs],
        values=[float(run.metrics[track.metric]) for run in runs],
    )  # fmt: skip


def _of_results(name: str, track: Track, sources: Sequence[Path], commit: str) -> Record:
    values, documents = [], []
    for path in sources:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; track {name} is measured by result files of a benchmark")
        document = read_mapping(path)
        found: Any = document
        for key in track.path:
            try:
                found = found[key]
            except (KeyError, IndexError, TypeError):
                raise ValueError(f"{path}: no {' / '.join(map(str, track.path))}, which track {name} reads") from None
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise ValueError(f"{path}: {' / '.join(map(str, track.path))} is {shown(found)}, not a number")
        values.append(float(found))
        documents.append(document)
    if len({json.dumps(each, sort_keys=True) for each in documents}) < len(documents):
        raise ValueError(f"add={name}: two of the result files are the same run")
    first = documents[0] if documents else {}
    return Record(
        track=name, date=str(first.get("date") or datetime.date.today()), commit=commit, command=track.command,
        hardware=hardware(first.get("machine", {})), seeds=list(range(len(values))), values=values,
    )  # fmt: skip


def hardware(machine: Mapping[str, Any]) -> str:
    """A machine in a line."""
    if not machine:
        return ""
    threads = f"{machine.get('threads')} threads of {machine.get('cores')} cores"
    return f"{machine.get('processor')}, {threads}, GPU {machine.get('gpu')}"


def _commit(journal: Mapping[str, Any]) -> str:
    """The commit that a run noted; "" if it noted none."""
    noted = journal.get("git")
    return str(noted.get("commit") or "") if isinstance(noted, Mapping) else ""


def _head() -> str:
    """The commit of the checkout; "" where there is none."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def portable(command: str) -> str:
    """A command without the folders of the machine that it ran on: `data.train=/disk/texts/a.txt` becomes `data.train=a.txt`."""
    return re.sub(r"(=|\s)/(?:[^\s/]+/)+([^\s/]+)", r"\1\2", command)


def write_leaderboard(file: Path) -> Path:
    """Write the page next to the tracks' file; return it. Raises ValueError for a record that is none."""
    tracks = read_tracks(file)
    records = {name: read_records(file, name, track) for name, track in tracks.items()}
    rows = []
    for name, track in tracks.items():
        best = records[name][-1] if records[name] else None
        value = "none yet" if best is None else _shown(best)
        rows.append(
            [f"[{track.title}](#{name})", f"{track.unit}, {track.better} is better", value, best.date if best else ""]
        )
    sections = [
        "# Leaderboard\n",
        "Tracks with fixed budgets. A record needs three seeds (three runs of a benchmark) and beats the last by more than the "
        "spread, max - min over the seeds; `python -m muomni.report leaderboard` checks both and makes this page of "
        f"[{file.name}]({file.name}). `add=TRACK RUN RUN RUN` adds one.\n",
        table(["track", "measured", "record", "date"], rows),
        *(_section(name, track, records[name]) for name, track in tracks.items()),
    ]
    page = file.with_suffix(".md")
    write_text(page, "\n".join(sections))
    return page


def _shown(record: Record) -> str:
    return "**" + record.summary.text.replace(" (", "** (", 1)


def _section(name: str, track: Track, records: Sequence[Record]) -> str:
    what = f"`{track.metric}`" if track.metric else f"`{' / '.join(map(str, track.path))}` of its result file"
    lines = [f"## {name}\n", f"{track.title}: {track.unit}, {track.better} is better; {what}. Budget: {track.budget}\n",
             f"    {track.command}\n"]  # fmt: skip
    if not records:
        return "\n".join([*lines, "No record yet.\n"])
    rows = [
        [
            each.date,
            _shown(each),
            ", ".join(map(str, each.seeds)),
            quoted(each.hardware),
            each.commit[:10],
            f"`{each.command}`",
        ]
        for each in reversed(records)
    ]
    return "\n".join([*lines, table(["date", "record", "seeds", "hardware", "commit", "command"], rows)])
