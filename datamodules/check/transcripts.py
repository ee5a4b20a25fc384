"""Recordings too short for their texts: CTC writes at most a character an encoder frame."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from datamodules.check.finding import Finding, Setting, Severity
from datamodules.check.plan import Plan
from datamodules.check.topic import Count, Entry, Facts, Topic
from datamodules.media import Media
from muomni.frontends.audio_io import AudioFacts
from muomni.frontends.char_vocab import ctc_frames_needed

MANY, MOST = 0.01, 0.1  # shares of the clips from which it is a warning, and an error
FINEST = 4  # mel frames of an encoder frame, at least


class Transcripts(Topic):
    """Frames of each recording compared with the frames that its text needs, silence around speech included."""

    shapes, pools = ("speech",), True

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.symbol_frames = plan.option("symbol_frames")
        self.total: Counter[str] = Counter()
        self.short: dict[tuple[str, int], Count] = defaultdict(Count)
        """(split, frames of a symbol) -> clips."""

    def add_media(self, entry: Entry, medium: Media, facts: Facts | str) -> None:
        mel = self.plan.option("mel")
        if self.symbol_frames is None or not mel or not isinstance(facts, AudioFacts):
            return
        name = entry.source.name
        self.total[name] += 1
        frames = round(facts.seconds * mel["sample_rate"]) // mel["hop"]
        needed = ctc_frames_needed([ord(character) for character in entry.row["text"]])
        for each in {self.symbol_frames, FINEST}:
            if -(-frames // each) < needed:
                rate = mel["sample_rate"] / mel["hop"] / each
                least = f"{facts.seconds:.2f} s, its text needs {needed / rate:.2f} s"
                self.short[name, each].add(f"{entry.place}: {least}")

    def findings(self) -> Iterator[Finding]:
        for source in self.plan.sources:
            short, total = self.short.get((source.name, self.symbol_frames or 0)), self.total[source.name]
            if not short or self.plan.repeats(source) is not None:
                continue
            share = short.count / total
            finer = self.short.get((source.name, FINEST))
            remedy = "the loss leaves them out; longer recordings or shorter texts help"
            if self.symbol_frames > FINEST:
                left = finer.count if finer else 0
                remedy = f"with backbone.audio.downsample={FINEST} there are {left}"
            rate = self._frame_rate()
            yield Finding(
                severity=Severity.ERROR if share > MOST else Severity.WARNING if share > MANY else Severity.NOTE,
                check="too-short-for-text",
                split=source.name,
                what=f"{short.count} of {total} recordings are too short for their text: CTC writes at most {rate:g} "
                "characters a second",
                where=short.where,
                remedy=remedy,
                count=short.count,
                total=total,
            )

    def settings(self) -> Iterator[Setting]:
        train = self.plan.train
        if train is None or not self.symbol_frames or self.symbol_frames <= FINEST:
            return
        counts = [self.short[train.name, frames].count for frames in (self.symbol_frames, FINEST)]
        if counts[0] > MANY * self.total[train.name] and counts[1] < counts[0]:
            why = f"{counts[0]} training texts do not fit their recordings; with it {counts[1]} do not"
            yield Setting(option="backbone.audio.downsample", value=FINEST, why=why)

    def _frame_rate(self) -> float:
        mel: dict[str, Any] = self.plan.option("mel")
        return mel["sample_rate"] / mel["hop"] / self.symbol_frames
