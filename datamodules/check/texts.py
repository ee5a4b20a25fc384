"""Texts as characters: those that the model cannot write, and signs that a file was read in a wrong encoding."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from datamodules.check.distribution import Distribution
from datamodules.check.finding import Bars, Finding, Setting, Severity, by_share
from datamodules.check.plan import Plan, Source
from datamodules.check.topic import Count, Entry, Topic
from muomni.frontends.char_vocab import STANDARD
from muomni.frontends.text_normalizer import LETTERS, normalize_text

SPELLED = ("speech", "ocr")  # shapes whose texts are written character by character
#: UTF-8 that was read as Latin-1 or Windows-1252 ("Ã©" for "é"), and what stands for bytes that could not be read.
GARBLED = re.compile("[\u00c3\u00c2][\u0080-\u00bf]|\u00e2\u20ac|\ufffd")
SHOWN = 10  # characters of a finding
#: Stage -> option of its table, and the symbols of it that are no characters of the data.
TABLES = {"audio": ("backbone.audio.num_symbols", 2), "ocr": ("backbone.ocr.num_symbols", 10)}
DEFAULT_CHARACTERS = 97


class Texts(Topic):
    """Counts characters by split."""

    pools = True

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.spell = _spelling(plan)
        self.in_words = bool(plan.option("in_words", False))
        spelled = plan.shape in SPELLED and "characters" in plan.options and not self.in_words
        option = plan.option("characters") if spelled else "any"
        self.known: set[str] | None = set(STANDARD)
        """Characters that can be written; None: all."""
        if option == "any":
            self.known = None
        elif option is not None:
            self.known = set() if option == "data" else set(option)
        self.learnt = option == "data"
        self.characters: Counter[str] = Counter()
        """Characters of each split."""
        self.outside: dict[str, Counter[str]] = defaultdict(Counter)
        self.examples: dict[tuple[str, str], Count] = defaultdict(Count)
        self.garbled: dict[str, Count] = defaultdict(Count)
        self.lengths: dict[str, Distribution] = defaultdict(Distribution)
        self.of_training: set[str] = set()

    def add(self, entry: Entry) -> None:
        name = entry.source.name
        for raw in entry.texts:
            text = self.spell(raw)
            self.lengths[name].add(len(text))
            if not raw.isascii() and (odd := GARBLED.search(raw)):
                self.garbled[name].add(f"{entry.place}: {raw[max(0, odd.start() - 15) : odd.end() + 15]!r}")
            if self.known is None and not self.in_words:
                continue
            self.characters[name] += len(text)
            own = set(normalize_text(text, LETTERS).left_out if self.known is None else text)
            if entry.source.phase == "train":
                self.of_training |= own
                if self.learnt and self.known is not None:
                    self.known |= own
            for character in own - (self.known or set()):
                self.outside[name][character] += text.count(character)
                self.examples[name, character].add(f"{entry.place}: {_around(text, character)!r}")

    def findings(self) -> Iterator[Finding]:
        for source in self.plan.sources:
            if self.plan.repeats(source) is not None:
                continue
            yield from self._outside(source)
            garbled = self.garbled.get(source.name)
            if garbled:
                yield Finding(
                    severity=Severity.WARNING,
                    check="garbled-text",
                    split=source.name,
                    what=f"{garbled.count} texts look as if they were read in a wrong encoding",
                    where=garbled.where,
                    remedy="write the file again as UTF-8",
                    count=garbled.count,
                    total=self.lengths[source.name].count,
                )

    def _outside(self, source: Source) -> Iterator[Finding]:
        outside, total = self.outside[source.name], self.characters[source.name]
        if not outside:
            return
        shown = " ".join(_name(character) for character, _ in outside.most_common(SHOWN))
        more = f" and {len(outside) - SHOWN} more" if len(outside) > SHOWN else ""
        where = [self.examples[source.name, character].where[0] for character, _ in outside.most_common(3)]
        whose = "none of the training texts has them" if self.learnt else "they cannot be written"
        if self.in_words:
            whose = "they have no words"
        yield Finding(
            severity=Severity.WARNING if source.phase == "test" else by_share(outside.total(), total),
            check="unknown-characters",
            split=source.name,
            what=f"{outside.total()} of {total} characters are outside the vocabulary ({whose}): {shown}{more}",
            where=where,
            remedy="write them otherwise"
            if self.learnt or self.in_words
            else "characters=data, or write them otherwise",
            count=outside.total(),
            total=total,
        )

    def settings(self) -> Iterator[Setting]:
        train = self.plan.train
        if train is None or self.known is None:
            return
        if self.outside[train.name]:
            why = f"{len(self.outside[train.name])} characters of the training texts cannot be written"
            yield Setting(option="characters", value="data", why=why)
        if (self.learnt or self.outside[train.name]) and len(self.of_training) > DEFAULT_CHARACTERS:
            option, others = TABLES.get(self.plan.stage, ("", 0))
            if option:
                why = f"the training texts have {len(self.of_training)} characters"
                yield Setting(option=option, value=len(self.of_training) + others, why=why)

    def numbers(self, source: Source) -> dict[str, Any]:
        if not self.lengths[source.name].count:
            return {}
        return {"characters": self.lengths[source.name].summary()}

    def histograms(self, source: Source) -> Iterator[Bars]:
        if self.lengths[source.name].count:
            bins = self.lengths[source.name].bars()
            yield Bars(title="length of texts", unit="characters", split=source.name, bins=bins)


def _spelling(plan: Plan) -> Callable[[str], str]:
    """A text as the datamodule of this shape spells it."""
    if plan.shape == "ocr":
        return lambda text: unicodedata.normalize("NFC", text)
    if plan.shape != "speech":
        return lambda text: text
    from datamodules.char_vocab import clean_transcript  # with Lightning, which takes seconds

    lowercase = bool(plan.option("lowercase", False))
    return lambda text: clean_transcript(text, lowercase=lowercase)


def _around(text: str, character: str) -> str:
    place = text.index(character)
    return text[max(0, place - 12) : place + 13]


def _name(character: str) -> str:
    """A character to be read in a line."""
    return character if character.isprintable() and not character.isspace() else f"U+{ord(character):04X}"
