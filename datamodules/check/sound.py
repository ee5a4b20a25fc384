"""Recordings: how long, at which rates, and which of them are silent, clipped, or not what their rows say."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from datamodules.check.distribution import Distribution
from datamodules.check.finding import Bars, Finding, Setting, Severity, by_share
from datamodules.check.plan import Plan, Source
from datamodules.check.topic import Count, Entry, Facts, Topic
from datamodules.manifests import MAX_BAD_SHARE
from datamodules.media import Media
from muomni.frontends.audio_io import AudioFacts

SILENT = 1e-3  # peak, -60 dB: there is nothing to recognise
QUIET = 1e-2  # root mean square, -40 dB
CLIPPED = "it is clipped"  # how a remark of the reader begins
RARE = 0.01  # share of the recordings below which a rate is odd among the others
OFF = (0.1, 0.1)  # seconds and share by which a length may differ from the row's
SECONDS_KEYS = ("seconds", "duration")
RATE_KEYS = ("sample_rate", "sampling_rate")
SPREAD = 2.5  # longest over typical, from which batches of the longest clips are worth a limit
HEAVY = 10_000  # frames of such a batch


class Sound(Topic):
    """Facts of recordings by split."""

    shapes, pools = ("speech", "sft"), True

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.seconds: dict[str, Distribution] = defaultdict(Distribution)
        self.rates: dict[str, Counter[int]] = defaultdict(Counter)
        self.channels: dict[str, Counter[int]] = defaultdict(Counter)
        self.first_of_rate: dict[tuple[str, int], Count] = defaultdict(Count)
        self.found: dict[tuple[str, str], Count] = defaultdict(Count)
        """(split, check) -> recordings."""

    def add_media(self, entry: Entry, medium: Media, facts: Facts | str) -> None:
        if not isinstance(facts, AudioFacts):
            return
        name = entry.source.name
        self.seconds[name].add(facts.seconds)
        self.rates[name][facts.sample_rate] += 1
        self.channels[name][facts.channels] += 1
        self.first_of_rate[name, facts.sample_rate].add(entry.place)
        for check in _oddities(facts):
            self.found[name, check].add(entry.place)
        if any(remark.startswith(CLIPPED) for remark in facts.remarks):
            self.found[name, "clipped"].add(entry.place)
        wrong = contradiction(entry.row, facts.sample_rate, facts.seconds)
        if wrong:
            self.found[name, "header"].add(f"{entry.place}: {wrong}")

    def findings(self) -> Iterator[Finding]:
        for source in self.plan.sources:
            if self.plan.repeats(source) is None and self.seconds[source.name].count:
                yield from self._found(source)
                yield from self._odd_rates(source)
        yield from self._too_long()
        yield from self._below_the_model()

    def _found(self, source: Source) -> Iterator[Finding]:
        total = self.seconds[source.name].count
        for check, (what, remedy, severity) in _WORDS.items():
            found = self.found.get((source.name, check))
            if found:
                yield Finding(
                    severity=by_share(found.count, total) if severity is None else severity,
                    check=check,
                    split=source.name,
                    what=f"{found.count} of {total} recordings {what}",
                    where=found.where,
                    remedy=remedy,
                    count=found.count,
                    total=total,
                )

    def _odd_rates(self, source: Source) -> Iterator[Finding]:
        rates, total = self.rates[source.name], self.seconds[source.name].count
        usual = rates.most_common(1)[0][0]
        for rate, count in rates.items():
            if rate != usual and count <= max(1, RARE * total) and total > 10:
                yield Finding(
                    severity=Severity.WARNING,
                    check="odd-rate",
                    split=source.name,
                    what=f"{count} of {total} recordings have {rate} Hz, nearly all others {usual} Hz: is their header right?",
                    where=self.first_of_rate[source.name, rate].where,
                    remedy="listen to them: at a wrong rate they are too fast or too slow",
                    count=count,
                    total=total,
                )

    def _too_long(self) -> Iterator[Finding]:
        train, limit = self.plan.train, self.plan.option("max_seconds")
        if train is None or limit is None or not self.seconds[train.name].count:
            return
        seconds = self.seconds[train.name]
        long = seconds.above(limit)
        if long:
            yield Finding(
                severity=Severity.ERROR if long == seconds.count else Severity.WARNING,
                check="too-long",
                split=train.name,
                what=f"{long} of {seconds.count} recordings are longer than {limit:g} s and not trained on",
                remedy=f"datamodule.max_seconds={_ceil(seconds.quantile(0.995)):g}, or cut them",
                count=long,
                total=seconds.count,
            )

    def _below_the_model(self) -> Iterator[Finding]:
        mel, train = self.plan.option("mel"), self.plan.train
        if train is None or not mel or not self.rates[train.name]:
            return
        below = Counter({rate: n for rate, n in self.rates[train.name].items() if rate < mel["sample_rate"]})
        if below:
            rates = ", ".join(f"{rate} Hz" for rate in sorted(below))
            yield Finding(
                severity=Severity.NOTE,
                check="below-model-rate",
                split=train.name,
                what=f"{below.total()} recordings have {rates}: brought to the model's {mel['sample_rate']} Hz, their upper "
                "bands are empty",
                remedy="recordings to be recognised later should be of the same rate",
                count=below.total(),
                total=self.seconds[train.name].count,
            )

    def settings(self) -> Iterator[Setting]:
        train, limit, mel = self.plan.train, self.plan.option("max_seconds"), self.plan.option("mel")
        if train is None or limit is None or not mel or not self.seconds[train.name].count:
            return
        seconds = self.seconds[train.name]
        if seconds.above(limit) > MAX_BAD_SHARE * seconds.count:
            most = _ceil(seconds.quantile(0.995))
            yield Setting(option="datamodule.max_seconds", value=most, why=f"{limit:g} s leaves out over 1 %")
            limit = most
        longest, typical = min(seconds.max, limit), seconds.quantile(0.75)
        size = self.plan.option("batch_size")
        rate = mel["sample_rate"] / mel["hop"]
        heavy = longest > SPREAD * typical and size * longest * rate > HEAVY if size else False
        if heavy and self.plan.option("batch_tokens") is None:
            frames = round(size * typical * 1.25 * rate, -2)
            why = f"a batch of the longest clips would take {longest / typical:.1f} times the usual memory and time"
            yield Setting(option="datamodule.batch_tokens", value=int(frames), why=why)

    def numbers(self, source: Source) -> dict[str, Any]:
        seconds = self.seconds[source.name]
        if not seconds.count:
            return {}
        return {
            "hours": round(seconds.total / 3600, 3),
            "seconds": seconds.summary(),
            "sample rates": {str(rate): count for rate, count in self.rates[source.name].most_common()},
            "channels": {str(number): count for number, count in self.channels[source.name].most_common()},
        }

    def histograms(self, source: Source) -> Iterator[Bars]:
        seconds = self.seconds[source.name]
        if seconds.count:
            yield Bars(title="length of recordings", unit="s", split=source.name, bins=seconds.bars())


_WORDS: dict[str, tuple[str, str, Severity | None]] = {
    "header": ("are not what their rows say", "correct the header or the row", None),
    "truncated": ("end before their header says", "copy or make them again", None),
    "silent": ("are silent (no sample above -60 dB)", "remove them, or their text is learnt for silence", None),
    "clipped": ("are clipped: many samples stand at their limit", "record them at a lower level", Severity.WARNING),
    "quiet": ("are very quiet (below -40 dB)", "training levels them, and their noise with them", Severity.NOTE),
}


def _oddities(facts: AudioFacts) -> Iterator[str]:
    """The checks that a recording does not pass."""
    if facts.peak < SILENT:
        yield "silent"
    elif facts.level < QUIET:
        yield "quiet"
    if facts.promised is not None and facts.seconds < facts.promised - 1 / facts.sample_rate:
        yield "truncated"


def contradiction(row: dict[str, Any], rate: int, seconds: float | None) -> str:
    """Where a file is not what its row says, if it says anything."""
    said = next((row[key] for key in RATE_KEYS if _is_number(row.get(key))), None)
    if said is not None and int(said) != rate:
        return f"{rate} Hz in the header, {int(said)} in the row"
    said = next((row[key] for key in SECONDS_KEYS if _is_number(row.get(key))), None)
    if said is not None and seconds is not None and abs(said - seconds) > max(OFF[0], OFF[1] * said):
        return f"{seconds:.2f} s, {said:.2f} in the row"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _ceil(seconds: float) -> float:
    """Up to half a second."""
    return -(-seconds * 2 // 1) / 2
