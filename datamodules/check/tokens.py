"""Texts as tokens: their lengths compared with the model's context, and whether the vocabulary fits the amount of text."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from datamodules.check.distribution import Distribution
from datamodules.check.finding import Bars, Finding, Setting, Severity, by_share
from datamodules.check.plan import Plan, Source
from datamodules.check.topic import Count, Entry, Facts, Topic
from datamodules.media import Media
from muomni.frontends.audio_io import AudioFacts

SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32000)
TEXT_PER_PIECE = 500  # characters of training text a piece, from which each is seen often enough
#: Shape -> what is compared, the option that limits it, and the option to raise. Texts are split into windows, not cut.
LIMITS = {
    "text": ("max_length", "backbone.thinker.max_length"),
    "image_text": ("max_length", "backbone.text_tower.max_length"),
    "sft": ("max_length", "backbone.thinker.max_length"),
    "ocr": ("max_characters", "backbone.ocr.max_characters"),
}


class Tokens(Topic):
    """Lengths by split; of written images in characters."""

    shapes, pools = tuple(LIMITS), True

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        option, self.remedy = LIMITS[plan.shape]
        self.limit: int = plan.option(option, 0)
        self.unit = "characters" if plan.shape == "ocr" else "tokens"
        self.lengths: dict[str, Distribution] = defaultdict(Distribution)
        self.long: dict[str, Count] = defaultdict(Count)
        self.text: int = 0
        """Characters of the training texts."""
        self.audio: dict[int, int] = {}
        """Ordinal of a conversation whose recordings are being read -> their tokens."""

    def add(self, entry: Entry) -> None:
        if entry.source.phase == "train" and not self.plan.pooled(entry.source):
            self.text += sum(map(len, entry.texts))
        if self.plan.shape == "ocr":
            self._count(entry, len(entry.texts[0]))

    def add_media(self, entry: Entry, medium: Media, facts: Facts | str) -> None:
        if self.plan.shape == "sft" and isinstance(facts, AudioFacts):
            mel = self.plan.option("mel")
            per_token = self.plan.option("audio_downsample", 0) * self.plan.option("audio_stack", 0)
            if mel and per_token:
                frames = round(facts.seconds * mel["sample_rate"]) // mel["hop"]
                self.audio[entry.number] = self.audio.get(entry.number, 0) - (-frames // per_token)

    def add_tokens(self, entry: Entry, lengths: Sequence[int]) -> None:
        """Tokens of the row's texts, after its media; of a conversation those of its images are counted in."""
        audio = self.audio.pop(entry.number, 0)
        for length in lengths:
            self._count(entry, length + audio)

    def _count(self, entry: Entry, length: int) -> None:
        name = entry.source.name
        self.lengths[name].add(length)
        question = "prompt" in entry.row and entry.source.phase != "train"
        if self.limit and length > self.limit and (self.plan.shape != "text" or question):
            self.long[name].add(f"{entry.place}: {length} {self.unit}")

    def findings(self) -> Iterator[Finding]:
        for source in self.plan.sources:
            long, total = self.long.get(source.name), self.lengths[source.name].count
            if not long or self.plan.repeats(source) is not None:
                continue
            severity, then = self._meaning(source, long.count, total)
            yield Finding(
                severity=severity,
                check="too-many-tokens" if self.unit == "tokens" else "text-too-long",
                split=source.name,
                what=f"{long.count} of {total} texts are longer than {self.limit} {self.unit}: {then}",
                where=long.where,
                remedy=f"{self.remedy}={_ceil(self.lengths[source.name].max)}, or shorten them",
                count=long.count,
                total=total,
            )
        train = self.plan.train
        if self.plan.shape == "text" and train is not None:
            yield from self._windows(train)

    def _meaning(self, source: Source, count: int, total: int) -> tuple[Severity, str]:
        if self.plan.shape == "image_text":
            return Severity.WARNING, "they are cut"
        if self.plan.shape == "ocr" and source.phase != "train":
            return Severity.ERROR, "training refuses them"
        severity = by_share(count, total) if self.plan.shape == "sft" else Severity.WARNING
        return severity, "they are left out"

    def _windows(self, source: Source) -> Iterator[Finding]:
        lengths = self.lengths[source.name]
        long = lengths.above(self.limit) if self.limit else 0
        if long:
            yield Finding(
                severity=Severity.NOTE,
                check="windows",
                split=source.name,
                what=f"{long} of {lengths.count} documents are longer than {self.limit} tokens: they are learnt in windows",
                remedy=f"{self.remedy}={_ceil(lengths.quantile(0.99))} for whole ones",
                count=long,
                total=lengths.count,
            )

    def settings(self) -> Iterator[Setting]:
        train = self.plan.train
        if train is None or not self.lengths[train.name].count:
            return
        lengths = self.lengths[train.name]
        if self.plan.shape != "text" and self.limit and self.long[train.name].count > 0.01 * lengths.count:
            why = f"{self.limit} {self.unit} are too few for over 1 % of the training texts"
            yield Setting(option=self.remedy, value=_ceil(lengths.quantile(0.995)), why=why)
        size = self.plan.option("vocab_size")
        if self.plan.shape not in ("text", "image_text") or not size or self.plan.option("tokenizer") is not None:
            return
        fitting = max((each for each in SIZES if each * TEXT_PER_PIECE <= self.text), default=SIZES[0])
        if not 0.4 <= size / fitting <= 2.5:
            why = f"{self.text} characters of training text, some {TEXT_PER_PIECE} for each piece; {size} now"
            yield Setting(option="vocab_size", value=fitting, why=why)

    def numbers(self, source: Source) -> dict[str, Any]:
        lengths = self.lengths[source.name]
        if not lengths.count or self.unit != "tokens":
            return {}
        return {"tokens": lengths.summary(), "tokens in all": round(lengths.total)}

    def histograms(self, source: Source) -> Iterator[Bars]:
        lengths = self.lengths[source.name]
        if lengths.count and self.unit == "tokens":
            yield Bars(title="length of texts", unit="tokens", split=source.name, bins=lengths.bars())


def _ceil(length: float) -> int:
    """Up to a multiple of 16."""
    return -(-int(length) // 16) * 16
