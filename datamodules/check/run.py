"""The check: every row past every topic, its media and tokens by worker processes."""

import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from datamodules.check.finding import Report
from datamodules.check.images import Images
from datamodules.check.inspection import Outcome
from datamodules.check.leaks import Leaks
from datamodules.check.mixing import Mixing
from datamodules.check.plan import Plan, Source
from datamodules.check.readable import Readable
from datamodules.check.reading import estimate, evenly, used_rows, work_of
from datamodules.check.rows import Rows
from datamodules.check.sound import Sound
from datamodules.check.speakers import Speakers
from datamodules.check.texts import Texts
from datamodules.check.tokens import Tokens
from datamodules.check.topic import Entry, Topic
from datamodules.check.transcripts import Transcripts
from datamodules.check.workers import Workers
from muomni.cores import available_cores

#: In the order of a report's findings of one severity and share.
TOPICS: tuple[type[Topic], ...] = (Leaks, Readable, Sound, Transcripts, Speakers, Texts, Tokens, Images, Mixing)
BAR_FROM = 200  # rows


def check(plan: Plan, *, sample: int | None = None, processes: int | None = None) -> Report:
    """Check all rows and media of a plan. sample: about so many rows of each split, evenly spread; None: all."""
    started = time.perf_counter()
    rows = Rows(plan)
    topics = [kind(plan) for kind in TOPICS if plan.shape in kind.shapes]
    workers: Workers[Entry] = Workers(
        processes=processes or available_cores(), tokenizer=plan.tokenizer, image_tokens=_image_tokens(plan)
    )
    for source in plan.sources:
        if plan.repeats(source) is None:
            _read(plan, source, rows, topics, workers, sample)
    report = Report(stage=plan.stage, data=plan.data, sample=sample)
    every = [rows, *topics]
    report.findings = [finding for topic in every for finding in topic.findings()]
    report.settings = [setting for topic in every for setting in topic.settings()]
    if plan.shares and plan.train is not None:
        report.splits["train"] = {"sets": list(plan.shares), **_numbers(every, plan.train)}
        report.histograms += [bars for topic in every for bars in topic.histograms(plan.train)]
    for source in plan.sources:
        again = plan.repeats(source)
        file = {"file": str(source.path), "split": source.split}
        report.splits[source.name] = file | ({"same as": again.name} if again is not None else _numbers(every, source))
        if again is None:
            report.histograms += [bars for topic in every for bars in topic.histograms(source)]
    report.seconds = time.perf_counter() - started
    return report


def _read(
    plan: Plan, source: Source, rows: Rows, topics: Sequence[Topic], workers: Workers[Entry], sample: int | None
) -> None:
    total = estimate(source.path)
    few = total is not None and total < BAR_FROM
    with tqdm(desc=source.name, total=total, unit="row", mininterval=1, leave=False, disable=few) as bar:
        entries = used_rows(plan, source, rows, every=max(1, (total or 0) // sample) if sample else 1, tick=bar.update)
        if sample is not None:
            entries = iter(evenly(entries, sample))
        works = ((entry, work_of(entry, tokens=plan.tokenizer is not None)) for entry in entries)
        for entry, outcome in workers.run(works):
            for topic in topics:
                _show(topic, entry, outcome)


def _show(topic: Topic, entry: Entry, outcome: Outcome) -> None:
    images, audios = entry.media
    for view in topic.views(entry):
        topic.add(view)
        for medium, facts in zip((*images, *audios), outcome.facts, strict=True):
            topic.add_media(view, medium, facts)
        if isinstance(topic, Leaks):
            for digest in filter(None, outcome.digests):
                topic.add_digest(view, digest)
        if isinstance(topic, Tokens):
            topic.add_tokens(view, outcome.tokens)


def _numbers(topics: Sequence[Topic], source: Source) -> dict[str, Any]:
    """What all topics say of a split."""
    return {name: value for topic in topics for name, value in topic.numbers(source).items()}


def _image_tokens(plan: Plan) -> int:
    """Of an image inside a conversation."""
    counts = {"cls": 1, "grid": plan.option("image_grid", 0) ** 2, "none": 0}
    return counts.get(plan.option("image_tokens", "none"), 0)
