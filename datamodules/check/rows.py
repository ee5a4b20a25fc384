"""Rows and splits: entries that cannot be used, splits that are empty or ignored, ids that occur twice, misspelled keys."""

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from datamodules.check.finding import EXAMPLES, Finding, Severity, by_share
from datamodules.check.fingerprints import Fingerprints, fingerprint
from datamodules.check.plan import Plan, Source
from datamodules.check.topic import Count, Entry, Topic, place_of
from datamodules.formats import BadRow

#: Keys that are read, by shape; those of conversations are inside their messages.
KEYS = {
    "text": ("text", "prompt", "answer", "kind", "logprob"),
    "image_text": ("image", "caption", "captions", "objects", "twin"),
    "speech": ("audio", "wav", "text", "speaker", "kind"),
    "ocr": ("image", "text"),
    "sft": ("messages", "task", "meta"),
}
COMMON = ("id", "split")
ALIKE = 0.8  # difflib's ratio from which a key is taken for a misspelled one
MOST_KEYS = 1000
TRAIN_NAMES = ("train", "training")
HELD_OUT = ("val", "dev", "test", "eval", "held")  # how names of splits begin that are not to be trained on


class Rows(Topic):
    """Counts every entry of a source by what became of it."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.used: Counter[str] = Counter()
        self.read: Counter[str] = Counter()
        """Rows of the split, the bad ones included, before options leave some out."""
        self.bad: dict[str, dict[str, Count]] = defaultdict(lambda: defaultdict(Count))
        self.splits: dict[str, Counter[str]] = defaultdict(Counter)
        """Source -> value of "split" -> rows that have it, used or not."""
        self.left_out: Counter[str] = Counter()
        self.broken: dict[str, str] = {}
        self.ids: dict[str, Fingerprints] = defaultdict(Fingerprints)
        self.keys: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, entry: Entry) -> None:
        name, row = entry.source.name, entry.row
        self.used[name] += 1
        self.read[name] += 1
        self.splits[name][_split_name(row.get("split"))] += 1
        if row.get("id") not in (None, ""):
            self.ids[name].add(fingerprint(str(row["id"])), entry.number)
        if len(self.keys[name]) < MOST_KEYS:
            self.keys[name].update(row.keys())

    def add_left_out(self, source: Source) -> None:
        """A row that options of the datamodule leave out."""
        self.read[source.name] += 1
        self.left_out[source.name] += 1

    def add_bad(self, source: Source, number: int | str, error: BadRow) -> None:
        """An entry that cannot be used."""
        self.read[source.name] += 1
        self.bad[source.name][_cause(str(error))].add(f"{place_of(source, number)}: {error}")

    def add_other(self, source: Source, split: Any) -> None:
        """A row of another split."""
        self.splits[source.name][_split_name(split)] += 1

    def add_broken(self, source: Source, error: Exception) -> None:
        """A file that cannot be read to its end."""
        self.broken[source.name] = str(error)

    def findings(self) -> Iterator[Finding]:
        sources = [source for source in self.plan.sources if self.plan.repeats(source) is None]
        for source in sources:
            yield from self._bad_rows(source)
            yield from self._keys(source)
        for source in self.plan.trained:
            yield from self._unsplit(source)
        for source in sources:
            yield from self._ids(source)

    def _bad_rows(self, source: Source) -> Iterator[Finding]:
        name = source.name
        if name in self.broken:
            yield Finding(severity=Severity.ERROR, check="unreadable-file", split=name, what=self.broken[name])
        elif not self.used[name] and not self.bad[name]:
            yield self._no_rows(source)
        total = sum(each.count for each in self.bad[name].values())
        for cause, bad in self.bad[name].items():
            yield Finding(
                severity=by_share(total, self.read[name]),
                check="bad-rows",
                split=name,
                what=f"{bad.count} of {self.read[name]} rows cannot be used: {cause}",
                where=bad.where,
                remedy="correct or remove them; training skips up to 1 % of them",
                count=bad.count,
                total=self.read[name],
            )

    def _no_rows(self, source: Source) -> Finding:
        splits = self.splits[source.name]
        if self.left_out[source.name]:
            what, remedy = "no row is left: datamodule.speakers or test_kinds leave all out", "set them to null"
        elif source.split is None:
            what, remedy = f"{source.path} holds no rows", ""
        else:
            found = ", ".join(f"{name} ({count})" for name, count in splits.most_common(8)) or "none"
            what = f"no row has split {source.split!r}; {source.path.name} has {found}"
            remedy = f"{source.split_option}=NAME, one of these"
        return Finding(severity=Severity.ERROR, check="no-rows", split=source.name, what=what, remedy=remedy)

    def _keys(self, source: Source) -> Iterator[Finding]:
        known = (*KEYS[self.plan.shape], *COMMON)
        found = self.keys[source.name]
        for key, count in found.items():
            alike = difflib.get_close_matches(str(key).lower(), known, n=1, cutoff=ALIKE)
            if key in known or not alike or alike[0] in found:
                continue
            yield Finding(
                severity=Severity.WARNING,
                check="unknown-key",
                split=source.name,
                what=f"{count} rows have the key {key!r}, which nothing reads; {alike[0]!r} is read",
                remedy=f"rename it to {alike[0]!r}",
                count=count,
                total=self.used[source.name],
            )

    def _unsplit(self, source: Source) -> Iterator[Finding]:
        """Rows that name their split, and are trained on whatever it is."""
        if source.split is not None or source.reading.split_shares or not source.path.is_file():
            return
        names = Counter({name: count for name, count in self.splits[source.name].items() if name != "none"})
        held_out = [name for name in names if name.lower().startswith(HELD_OUT)]
        if not held_out or len(names) < 2:
            return
        shown = ", ".join(f"{name} ({count})" for name, count in names.most_common(6))
        train = next((name for name in TRAIN_NAMES if name in names), names.most_common(1)[0][0])
        yield Finding(
            severity=Severity.ERROR,
            check="splits-ignored",
            split=source.name,
            what=f"its rows are of the splits {shown}, and all of them are trained on",
            remedy=f"{source.split_option}={train} {source.split_option.replace('train_', 'val_')}={held_out[0]}",
            count=names.total() - names[train],
            total=names.total(),
        )

    def _ids(self, source: Source) -> Iterator[Finding]:
        ids = self.ids[source.name]
        count, pairs = ids.repeated(EXAMPLES)
        if count:
            yield Finding(
                severity=Severity.WARNING,
                check="duplicate-ids",
                split=source.name,
                what=f"{count} of {len(ids)} ids occur before: training appends FILE:LINE to them",
                where=[f"{place_of(source, number)} as {place_of(source, first)}" for number, first in pairs],
                remedy="give each row an id of its own, or none",
                count=count,
                total=len(ids),
            )

    def numbers(self, source: Source) -> dict[str, Any]:
        names = [source.name] if source.name in self.read else [each.name for each in self.plan.trained]  # of all sets
        found: dict[str, Any] = {"rows": sum(self.used[name] for name in names)}
        bad = sum(each.count for name in names for each in self.bad[name].values())
        return found | ({"bad rows": bad} if bad else {})


def _split_name(value: Any) -> str:
    return str(value)[:40] if value not in (None, "") else "none"


def _cause(message: str) -> str:
    """A message without what differs from row to row."""
    if message.startswith("missing file"):
        return "a media file is missing"
    return re.sub(r"\d+", "N", re.sub(r"\([^)]*\)", "", message)).strip()[:80]
