"""The rows of a split, one after the other, or an even sample of them; what becomes of the others is counted."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from datamodules.check.inspection import Work
from datamodules.check.plan import Plan, Source
from datamodules.check.rows import Rows
from datamodules.check.topic import Entry
from datamodules.formats import BadRow, read_entries
from datamodules.manifests import OtherSplit, checked_entries

ESTIMATED = 1 << 20  # bytes from which the number of lines is estimated


def used_rows(
    plan: Plan,
    source: Source,
    rows: Rows,
    *,
    most: int | None = None,
    every: int = 1,
    tick: Callable[[], object] = lambda: None,
) -> Iterator[Entry]:
    """The rows of a source that a datamodule uses. rows: counts every entry. most: entries to read; None: all. every: only each
    n-th row. tick: called after each entry."""
    ordinal = 0
    try:
        shape = _shape_of(plan, source)
        found = checked_entries(
            source.path, shape=shape, split=source.split, root=source.root, reading=source.reading, phase=source.phase,
            every=every,
        )  # fmt: skip
        for number, row in islice(found, most):
            tick()
            if isinstance(row, BadRow):
                rows.add_bad(source, number, row)
            elif isinstance(row, OtherSplit):
                rows.add_other(source, row.name)
            elif not plan.uses(row, source, number):
                rows.add_left_out(source)
            else:
                ordinal += 1
                entry = Entry(source, number, number if isinstance(number, int) else -ordinal, row)
                rows.add(entry)
                yield entry
    except (ValueError, OSError) as error:
        rows.add_broken(source, error)


def evenly(entries: Iterator[Entry], count: int) -> list[Entry]:
    """At least `count` of the entries (all, where there are fewer) and less than twice as many, evenly spread."""
    kept: list[Entry] = []
    step = 1
    for index, entry in enumerate(entries):
        if index % step == 0:
            kept.append(entry)
        if len(kept) >= 2 * count:
            kept, step = kept[::2], 2 * step
    return kept


def estimate(path: Path) -> int | None:
    """Rows of a file of lines, about; None for others."""
    if not path.is_file() or path.suffix.lower() not in (".jsonl", ".csv", ".tsv", ".txt", ""):
        return None
    with path.open("rb") as file:
        start = file.read(ESTIMATED)
    return start.count(b"\n") * max(1, path.stat().st_size // max(1, len(start)))


def work_of(entry: Entry, *, tokens: bool) -> Work:
    """What workers do with a row. tokens: of its texts are counted."""
    images, audios = entry.media
    row = entry.row
    if not tokens:
        return Work(images, audios)
    if "messages" in row:
        return Work(images, audios, messages=row["messages"])
    return Work(images, audios, texts=entry.texts, together="captions" not in row)


def _shape_of(plan: Plan, source: Source) -> str:
    """Of the manifest: held-out conversations may be plain questions."""
    if plan.shape != "sft" or source.phase == "train" or not source.path.is_file():
        return plan.shape
    first = next(read_entries(source.path, shape="text", reading=source.reading), (0, {}))[1]
    return "text" if isinstance(first, dict) and "prompt" in first and "messages" not in first else plan.shape
