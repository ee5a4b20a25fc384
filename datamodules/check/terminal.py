"""A report for people: what is wrong first, then what to set, then the numbers. 80 columns, no colours."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from datamodules.check.finding import Bars, Finding, Report, Severity

WIDTH = 80
LABEL = 9  # columns of "WARNING  "
COLUMNS = 3  # splits of a table
CELL = 19
HALF = WIDTH // 2 - 1  # two histograms next to each other


def render(report: Report) -> str:
    """The whole report."""
    blocks = [_head(report)]
    blocks += [_findings(list(each)) for severity in Severity for each in _alike(report, severity)]
    if report.settings:
        blocks.append(_settings(report))
    blocks.append(_table(report.splits))
    bars = [each for each in report.histograms if each.split == next(iter(report.splits), "")]
    blocks += [_side_by_side(bars[start : start + 2]) for start in range(0, len(bars), 2)]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _head(report: Report) -> str:
    counts = [
        f"{count} {severity}{'s' if count > 1 else ''}"
        for severity in Severity
        if (count := sum(1 for _ in report.of(severity)))
    ]
    rows = sum(numbers.get("rows", 0) for numbers in report.splits.values() if "sets" not in numbers)
    lines = [f"data={report.data} for stage={report.stage}: {_number(rows)} rows in {report.seconds:.0f} s"]
    if report.sample is not None:
        lines.append(f"A quick look: about {_number(report.sample)} rows of each split, evenly spread (sample=)")
    lines.append(", ".join(counts) if counts else "Nothing to complain of.")
    return "\n".join(lines)


def _alike(report: Report, severity: Severity) -> Iterator[list[Finding]]:
    """The findings of a severity, those of one check together, the most important check first."""
    groups: dict[str, list[Finding]] = {}
    for finding in report.of(severity):
        groups.setdefault(finding.check, []).append(finding)
    yield from groups.values()


def _findings(findings: Sequence[Finding]) -> str:
    """Of one check: the first with examples, of the others how many."""
    first, *others = sorted(findings, key=lambda finding: (finding.split != "train", -finding.count))
    split = f"{first.split}: " if first.split else ""
    lines = _wrapped(f"{split}{first.what}", first=f"{first.severity.upper():<{LABEL}}")
    for where in first.where:
        lines.append(" " * LABEL + _cut(f"  {where}", WIDTH - LABEL))
    same = [other for other in others if _words(other) == _words(first)]
    for other in (other for other in others if other not in same):
        lines += _wrapped(f"{other.split}: {other.what}", first=" " * LABEL)
    if same:
        counts = (f"{other.split} {other.count} of {other.total}" for other in same)
        lines += _wrapped(f"also {', '.join(counts)}", first=" " * LABEL)
    if first.remedy:
        lines += _wrapped(first.remedy, first=f"{' ' * LABEL}-> ")
    return "\n".join(lines)


def _words(finding: Finding) -> str:
    """What is said but for its numbers."""
    return re.sub(r"[\d.,]+", "", finding.what)


def _settings(report: Report) -> str:
    lines = ["To set, after train.py:", f"  {' '.join(each.override for each in report.settings)}"]
    for each in report.settings:
        lines += _wrapped(f"{each.option}: {each.why}", first="    ")
    return "\n".join(lines)


def _table(splits: Mapping[str, Mapping[str, Any]]) -> str:
    names = list(splits)
    blocks = [_columns(splits, names[start : start + COLUMNS]) for start in range(0, len(names), COLUMNS)]
    return "\n\n".join(blocks)


def _columns(splits: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    keys = dict.fromkeys(key for name in names for key in splits[name] if key not in ("file", "split"))
    width = max([14, *(len(key) for key in keys)]) + 1
    lines = [" " * width + "".join(f"{_cut(name, CELL - 1):>{CELL}}" for name in names)]
    for key in keys:
        cells = (_cell(splits[name].get(key)) for name in names)
        lines.append(f"{key:<{width}}" + "".join(f"{_cut(cell, CELL - 1):>{CELL}}" for cell in cells))
    if any(_is_summary(splits[name].get(key)) for name in names for key in keys):
        lines.append(f"{'':<{width}}{'(shortest, median, longest)':>{CELL * len(names)}}")
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(value)
    if _is_summary(value):
        return " ".join(_number(value[key]) for key in ("min", "median", "max"))
    if isinstance(value, dict):
        if len(value) == 1:
            return next(iter(value))
        return ", ".join(f"{name}: {_number(count)}" for name, count in value.items())
    return _number(value) if isinstance(value, int | float) else str(value)


def _is_summary(value: Any) -> bool:
    return isinstance(value, dict) and "median" in value


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"


def _side_by_side(bars: Sequence[Bars]) -> str:
    columns = [list(_histogram(each)) for each in bars]
    return "\n".join(
        "  ".join(f"{cell:<{HALF}}" for cell in row).rstrip() for row in zip_longest(*columns, fillvalue="")
    )


def _histogram(bars: Bars) -> Iterator[str]:
    yield _cut(f"{bars.title} of {bars.split}, {bars.unit}", HALF)
    single = bars.unit != "s" and all(high - low == 1 and low == int(low) for low, high, _ in bars.bins)
    labels = [_number(low) if single else f"{_number(low)} - {_number(high)}" for low, high, _ in bars.bins]
    counts = [_number(count) for *_, count in bars.bins]
    left, right = max(map(len, labels)), max(map(len, counts))
    room = HALF - left - right - 2
    most = max(count for *_, count in bars.bins)
    for label, shown, (*_, count) in zip(labels, counts, bars.bins, strict=True):
        length = max(1 if count else 0, round(room * count / most))
        yield f"{label:>{left}} {'█' * length:<{room}} {shown:>{right}}"


def _wrapped(text: str, *, first: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=" " * len(first), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _cut(text: str, most: int) -> str:
    text = " ".join(text.splitlines())
    return text if len(text) <= most else f"{text[: most - 2]}.."
