"""Speakers: how many, and whether held-out recordings are of speakers that training knows."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from datamodules.check.finding import EXAMPLES, Finding, Setting, Severity
from datamodules.check.plan import Plan, Source
from datamodules.check.topic import Entry, Topic


class Speakers(Topic):
    """Counts recordings by speaker; rows that name none are of nobody."""

    shapes, pools = ("speech",), True

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.clips: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, entry: Entry) -> None:
        speaker = entry.row.get("speaker")
        if speaker not in (None, ""):
            self.clips[entry.source.name][str(speaker)] += 1

    def findings(self) -> Iterator[Finding]:
        train = self.plan.train
        for source in self.plan.held_out:
            if train is None or any(source.same_rows(each) for each in self.plan.trained):
                continue
            own, known = self.clips[source.name], self.clips[train.name]
            shared = [name for name, _ in own.most_common() if name in known]
            if not shared:
                continue
            clips, some = sum(own[name] for name in shared), len(shared) < len(own)
            who = f"{len(shared)} of its {len(own)} speakers are" if some else "all its speakers are"
            names = ", ".join(shared[:EXAMPLES]) + (", .." if len(shared) > EXAMPLES else "")
            yield Finding(
                severity=Severity.WARNING if some else Severity.NOTE,
                check="shared-speakers",
                split=source.name,
                what=f"{who} in training too ({names}), {clips} of {own.total()} recordings"
                + ("" if some else ": it says nothing of new voices"),
                remedy="hold whole speakers out" if some else "",
                count=clips,
                total=own.total(),
            )

    def settings(self) -> Iterator[Setting]:
        most, train = self.plan.option("most_speakers"), self.plan.train
        if most is None or train is None or self.plan.option("speakers") is not None:
            return
        count = len(self.clips[train.name])
        if count > most:
            why = f"a Talker of {most} cannot tell {count} speakers apart"
            yield Setting(option="backbone.talker.num_speakers", value=count, why=why)

    def numbers(self, source: Source) -> dict[str, Any]:
        count = len(self.clips[source.name])
        return {"speakers": count} if count else {}
