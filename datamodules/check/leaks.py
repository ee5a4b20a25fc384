"""The same sample twice: within a split, and in two splits, where a result would measure memory. By the row's content, and by the
bytes of its media.

In speech the samples are recordings (many may say the same), of images the images, of conversations media with questions, of
text documents of some length (short lines repeat in every book).
"""

from collections import defaultdict
from collections.abc import Iterator

from datamodules.check.finding import EXAMPLES, Finding, Severity, by_share
from datamodules.check.fingerprints import Fingerprints, fingerprint
from datamodules.check.plan import Plan, Source
from datamodules.check.topic import Entry, Facts, Topic, place_of
from datamodules.media import Media
from muomni.frontends.audio_io import AudioFacts

LONG = 40  # characters from which a document is one of a kind
MANY = 0.01  # share of duplicates in training that is worth a warning


class Leaks(Topic):
    """Hashes of every row and, where media are read, of every medium's content."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.rows: dict[str, Fingerprints] = defaultdict(Fingerprints)
        self.media: dict[str, Fingerprints] = defaultdict(Fingerprints)

    def add(self, entry: Entry) -> None:
        images, audios = entry.media
        names = [str(medium) for medium in (*images, *audios)]
        texts = [] if names and self.plan.shape != "sft" else list(entry.texts)
        if names or sum(map(len, texts)) >= LONG:
            key = "\0".join((*names, *(" ".join(text.split()) for text in texts)))
            self.rows[entry.source.name].add(fingerprint(key), entry.number)

    def add_media(self, entry: Entry, medium: Media, facts: Facts | str) -> None:
        if self.plan.shape != "sft" and isinstance(facts, AudioFacts):  # one image may have many questions
            self.media[entry.source.name].add(int.from_bytes(facts.digest, "little"), entry.number)

    def add_digest(self, entry: Entry, digest: int) -> None:
        """The content of an image file."""
        if self.plan.shape != "sft":
            self.media[entry.source.name].add(digest, entry.number)

    def findings(self) -> Iterator[Finding]:
        for source in self.plan.held_out:
            for train in self.plan.trained:
                yield from self._leak(source, train)
        for source in self.plan.sources:
            if self.plan.repeats(source) is None:
                yield from self._duplicates(source)
        for number, source in enumerate(self.plan.trained):
            for other in self.plan.trained[:number]:
                yield from self._in_both(source, other)

    def _leak(self, source: Source, train: Source) -> Iterator[Finding]:
        if source.name == f"test/{self.plan.probe}":  # its classifiers are trained on it
            return
        if source.same_rows(train):
            yield self._same(source, len(self.rows[train.name]))
            return
        for what, hashes in (("rows", self.rows), ("media", self.media)):
            own = hashes[source.name]
            count, pairs = own.shared(hashes[train.name], EXAMPLES)
            if not count:
                continue
            if count == len(own) == len(hashes[train.name]) and source.path == train.path:
                yield self._same(source, count)
                return
            of = f" of {train.of_set}" if train.of_set else ""
            noun = f"rows are training rows{of}" if what == "rows" else f"media have the content of training media{of}"
            whole = train.path == source.path and source.split is None and train.split is not None
            yield Finding(
                severity=by_share(count, len(own)),
                check="leak",
                split=source.name,
                what=f"{count} of {len(own)} {noun}: its results measure memory",
                where=[f"{place_of(source, number)} as {place_of(train, first)}" for number, first in pairs],
                remedy=f"{source.split_option}=NAME chooses other rows" if whole else "remove them from one of the two",
                count=count,
                total=len(own),
            )
            return

    def _same(self, source: Source, total: int) -> Finding:
        if self.plan.overfit:
            severity, remedy = Severity.NOTE, ""
        elif source.phase == "val" and not self.plan.val_given:
            severity, remedy = Severity.WARNING, "data.val=FILE, or data.val_split=NAME of the same file"
        else:
            severity, remedy = Severity.ERROR, f"{source.option}=FILE, or {source.split_option}=NAME of the same file"
        return Finding(
            severity=severity,
            check="held-out-is-train",
            split=source.name,
            what="it is the training data: its results measure memory",
            where=[str(source.path)],
            remedy=remedy,
            count=max(1, total),
            total=max(1, total),
        )

    def _in_both(self, source: Source, other: Source) -> Iterator[Finding]:
        """Rows of two training sets, which count for each."""
        if source.same_rows(other):
            yield self._again(source, f"it is the set {other.of_set} again", [str(source.path)], 1, 1)
            return
        for what, hashes in (("rows", self.rows), ("media", self.media)):
            own = hashes[source.name]
            count, pairs = own.shared(hashes[other.name], EXAMPLES)
            if count:
                said = f"{count} of {len(own)} {what} are in the set {other.of_set}, too"
                where = [f"{place_of(source, number)} as {place_of(other, first)}" for number, first in pairs]
                yield self._again(source, said, where, count, len(own))
                return

    def _again(self, source: Source, what: str, where: list[str], count: int, total: int) -> Finding:
        return Finding(
            severity=Severity.WARNING if count > MANY * total else Severity.NOTE,
            check="duplicates",
            split=source.name,
            what=what,
            where=where,
            remedy="remove them from one of the sets, or choose their weights by it",
            count=count,
            total=total,
        )

    def _duplicates(self, source: Source) -> Iterator[Finding]:
        for what, hashes in (("rows", self.rows), ("media", self.media)):
            own = hashes[source.name]
            count, pairs = own.repeated(EXAMPLES)
            if not count:
                continue
            noun = "rows repeat an earlier row" if what == "rows" else "media have the content of an earlier one"
            yield Finding(
                severity=Severity.WARNING if source.phase == "train" and count > MANY * len(own) else Severity.NOTE,
                check="duplicates",
                split=source.name,
                what=f"{count} of {len(own)} {noun}",
                where=[f"{place_of(source, number)} as {place_of(source, first)}" for number, first in pairs],
                remedy="remove them, unless they are meant to count more",
                count=count,
                total=len(own),
            )
            return
