"""What a topic of the check is: it is shown every row once, the facts of every medium once, and says what it found.

A topic keeps counts, distributions, hashes and a few examples: its memory grows by bytes a row, not by rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from datamodules.check.finding import EXAMPLES, Bars, Finding, Setting
from datamodules.check.plan import Plan, Source
from datamodules.formats import entry_place
from datamodules.manifests import Row
from datamodules.media import Media
from muomni.frontends.audio_io import AudioFacts
from muomni.frontends.chat import media_of, text_of
from muomni.frontends.image_file import ImageFacts

Facts = AudioFacts | ImageFacts


@dataclass(frozen=True, slots=True)
class Entry:
    """A row that is used. where: its line or entry, or its place in a folder. number: the same as a whole number; of a place -n
    for the n-th row of the split (`place_of`)."""

    source: Source
    where: int | str
    number: int
    row: Row

    @property
    def place(self) -> str:
        """FILE:LINE, with the row's own id where it has one."""
        given = self.row.get("id")
        where = place_of(self.source, self.where)
        return where if given in (None, "") else f"{where} ({str(given)[:40]})"

    @property
    def texts(self) -> Sequence[str]:
        """All texts of the row that a model reads or writes."""
        row = self.row
        if "messages" in row:
            return [text_of(turn) for turn in row["messages"]]
        if "prompt" in row:
            return [row["prompt"], row["answer"]]
        return row["captions"] if "captions" in row else [row["text"]]

    @property
    def media(self) -> tuple[list[Media], list[Media]]:
        """Images and recordings of the row."""
        row = self.row
        if "messages" in row:
            return media_of(row["messages"])
        return [row["image"]] if "image" in row else [], [row["audio"]] if "audio" in row else []


def place_of(source: Source, number: int | str) -> str:
    """FILE:LINE of an entry, the file by its name alone: its path is said once. A number below 0 counts the split's rows."""
    if isinstance(number, int) and number < 0:
        return f"{source.path.name}, row {-number} of {source.name}"
    return entry_place(source.path, number).removeprefix(f"{source.path.parent}/")


class Topic:
    """Base of all topics, which find nothing unless they say so."""

    shapes: ClassVar[tuple[str, ...]] = ("text", "image_text", "speech", "ocr", "sft")
    pools: ClassVar[bool] = False
    """Whether rows of several training sets are shown once more as of `plan.train`, for what is said of all of them together."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def views(self, entry: Entry) -> Iterator[Entry]:
        """The entry as it is shown: of its own set, and of all sets."""
        yield entry
        train = self.plan.train
        if self.pools and train is not None and self.plan.pooled(entry.source):
            yield replace(entry, source=train)

    def add(self, entry: Entry) -> None:
        """A row that is used."""

    def add_media(self, entry: Entry, medium: Media, facts: Facts | str) -> None:
        """A medium of such a row; a text says why it cannot be read."""

    def findings(self) -> Iterator[Finding]:
        """After all rows."""
        yield from ()

    def settings(self) -> Iterator[Setting]:
        """Options that fit this data better."""
        yield from ()

    def numbers(self, source: Source) -> dict[str, Any]:
        """What is said of a split: plain values by name."""
        return {}

    def histograms(self, source: Source) -> Iterator[Bars]:
        """Distributions of a split."""
        yield from ()


class Count:
    """How many, and the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self.where: list[str] = []

    def __bool__(self) -> bool:
        return self.count > 0

    def add(self, place: str) -> None:
        """Count one."""
        self.count += 1
        if len(self.where) < EXAMPLES:
            self.where.append(place)
