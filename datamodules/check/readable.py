"""Media that cannot be read: counted by cause, the first named."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from datamodules.check.finding import Finding, by_share
from datamodules.check.plan import Plan, Source
from datamodules.check.topic import Count, Entry, Facts, Topic
from datamodules.media import Media


class Readable(Topic):
    """Of images and recordings."""

    shapes = ("image_text", "speech", "ocr", "sft")

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.total: Counter[str] = Counter()
        self.bad: dict[str, dict[str, Count]] = defaultdict(lambda: defaultdict(Count))

    def add_media(self, entry: Entry, medium: Media, facts: Facts | str) -> None:
        self.total[entry.source.name] += 1
        if isinstance(facts, str):
            self.bad[entry.source.name][_cause(facts, medium)].add(f"{entry.place}: {facts}")

    def findings(self) -> Iterator[Finding]:
        for source in self.plan.sources:
            if self.plan.repeats(source) is not None:
                continue
            total = self.total[source.name]
            bad = sum(each.count for each in self.bad[source.name].values())
            for cause, found in self.bad[source.name].items():
                empty = "is empty" in cause
                yield Finding(
                    severity=by_share(bad, total),
                    check="empty-media" if empty else "unreadable-media",
                    split=source.name,
                    what=f"{found.count} of {total} files cannot be read: {cause}",
                    where=found.where,
                    remedy="make them again or remove their rows; training skips up to 1 % of them",
                    count=found.count,
                    total=total,
                )

    def numbers(self, source: Source) -> dict[str, Any]:
        bad = sum(each.count for each in self.bad[source.name].values())
        return {"unreadable": bad} if bad else {}


def _cause(message: str, medium: Media) -> str:
    """A message without the file's name and numbers."""
    for name in (str(medium), getattr(medium, "container", "")):
        message = message.replace(name, "") if name else message
    return re.sub(r"\d+(?:\.\d+)?", "N", " ".join(message.split()))[:100]
