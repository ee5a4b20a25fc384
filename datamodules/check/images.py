"""Images: their sizes and modes, and which are much smaller or longer than what the model takes."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from datamodules.check.distribution import Distribution
from datamodules.check.finding import Bars, Finding, Severity
from datamodules.check.plan import Plan, Source
from datamodules.check.topic import Count, Entry, Facts, Topic
from datamodules.media import Media
from muomni.frontends.image_file import ImageFacts

LONG = 4  # longer side over shorter one, from which little of an image is left in a square


class Images(Topic):
    """Facts of images by split."""

    shapes = ("image_text", "ocr", "sft")

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.size = (plan.option("image") or {}).get("size", 0)
        self.width: dict[str, Distribution] = defaultdict(Distribution)
        self.height: dict[str, Distribution] = defaultdict(Distribution)
        self.modes: dict[str, Counter[str]] = defaultdict(Counter)
        self.formats: dict[str, Counter[str]] = defaultdict(Counter)
        self.small: dict[str, Count] = defaultdict(Count)
        self.long: dict[str, Count] = defaultdict(Count)

    def add_media(self, entry: Entry, medium: Media, facts: Facts | str) -> None:
        if not isinstance(facts, ImageFacts):
            return
        name = entry.source.name
        self.width[name].add(facts.width)
        self.height[name].add(facts.height)
        self.modes[name][facts.mode] += 1
        self.formats[name][facts.format] += 1
        where = f"{entry.place}: {facts.width} x {facts.height}"
        if max(facts.width, facts.height) < self.size:
            self.small[name].add(where)
        if self.plan.shape != "ocr" and max(facts.width, facts.height) > LONG * min(facts.width, facts.height):
            self.long[name].add(where)

    def findings(self) -> Iterator[Finding]:
        for source in self.plan.sources:
            if self.plan.repeats(source) is not None:
                continue
            total = self.width[source.name].count
            for found, check, what, remedy in (
                (
                    self.small,
                    "small-images",
                    f"smaller than the model's {self.size} x {self.size}",
                    "they are enlarged",
                ),
                (self.long, "long-images", f"over {LONG} times as long as wide", "little of them is left in a square"),
            ):
                if found[source.name]:
                    yield Finding(
                        severity=Severity.NOTE,
                        check=check,
                        split=source.name,
                        what=f"{found[source.name].count} of {total} images are {what}: {remedy}",
                        where=found[source.name].where,
                        count=found[source.name].count,
                        total=total,
                    )

    def numbers(self, source: Source) -> dict[str, Any]:
        name = source.name
        if not self.width[name].count:
            return {}
        return {
            "images": self.width[name].count,
            "width": self.width[name].summary(),
            "height": self.height[name].summary(),
            "modes": dict(self.modes[name].most_common()),
            "formats": dict(self.formats[name].most_common()),
        }

    def histograms(self, source: Source) -> Iterator[Bars]:
        if self.width[source.name].count:
            yield Bars(title="width of images", unit="pixels", split=source.name, bins=self.width[source.name].bars())
