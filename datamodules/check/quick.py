"""What train.py checks before it trains: rows alone and the headers of a few recordings, in well under a second.

Rows that cannot be used, splits without any, ids that occur twice and characters outside the vocabulary are reported by the
datamodules themselves.
"""

import logging
from collections.abc import Iterator

from datamodules.check.finding import Finding, Severity
from datamodules.check.leaks import Leaks
from datamodules.check.plan import Plan
from datamodules.check.reading import used_rows
from datamodules.check.rows import Rows
from datamodules.check.sound import contradiction
from datamodules.check.speakers import Speakers
from datamodules.check.topic import Count, Topic
from muomni.frontends.audio_io import read_header

log = logging.getLogger(__name__)

MOST = 10_000  # entries of each file
HEADERS = 10  # recordings of each file
#: What the datamodules do not say.
CHECKS = (
    "splits-ignored", "unknown-key", "held-out-is-train", "leak", "duplicates", "shared-speakers", "header",
)  # fmt: skip


def quick_findings(plan: Plan) -> Iterator[Finding]:
    """Warnings and errors; of files that cannot be read, none."""
    rows = Rows(plan)
    topics: list[Topic] = [kind(plan) for kind in (Leaks, Speakers) if plan.shape in kind.shapes]
    headers: list[Finding] = []
    for source in plan.sources:
        if plan.repeats(source) is not None:
            continue
        wrong, looked_at = Count(), 0
        for entry in used_rows(plan, source, rows, most=MOST):
            for topic in topics:
                for view in topic.views(entry):
                    topic.add(view)
            for audio in entry.media[1] if looked_at < HEADERS else ():
                looked_at += 1
                try:
                    rate, _, seconds = read_header(audio)
                except (ValueError, OSError):  # the datamodule names it
                    continue
                if said := contradiction(entry.row, rate, seconds):
                    wrong.add(f"{entry.place}: {said}")
        if wrong:
            headers.append(_of_headers(source.name, wrong, looked_at))
    for finding in [*rows.findings(), *(each for topic in topics for each in topic.findings()), *headers]:
        if finding.severity != Severity.NOTE and finding.check in CHECKS:
            yield finding


def _of_headers(split: str, wrong: Count, total: int) -> Finding:
    return Finding(
        severity=Severity.WARNING,
        check="header",
        split=split,
        what=f"{wrong.count} of the first {total} recordings are not what their rows say",
        where=wrong.where,
        remedy="correct the header or the row",
        count=wrong.count,
        total=total,
    )


def log_quick_findings(plan: Plan) -> None:
    """A line for each."""
    for finding in quick_findings(plan):
        first = f"; the first: {finding.where[0]}" if finding.where else ""
        remedy = f" ({finding.remedy})" if finding.remedy else ""
        log.warning("data, %s: %s%s%s", finding.split, finding.what, first, remedy)
