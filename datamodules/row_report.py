"""What is said of rows that are not used: counted, the first of them named, and refused where they are many."""

import logging
from collections import Counter

log = logging.getLogger("datamodules.manifests")

MAX_BAD_SHARE = 0.01


def report_bad(bad: list[str], *, total: int, what: str) -> None:
    """Warn of skipped samples; over 1 % of them is a ValueError. Each entry names file, line and reason."""
    if not bad:
        return
    if len(bad) > MAX_BAD_SHARE * total:
        raise ValueError(f"{what}: {len(bad)} of {total} samples cannot be used (over 1 %); the first: {bad[0]}")
    log.warning("%s: skipped %d of %d samples; the first: %s", what, len(bad), total, bad[0])


def log_skipped(count: int, total: int, *, what: str, why: str) -> None:
    """Log how many of a manifest's rows are not used, and why; nothing where all are. what: the name of the data."""
    if count:
        log.warning("%s: %d of %d rows are left out: %s", what, count, total, why)


def report_repeated(count: int, total: int, *, first: str, what: str) -> None:
    """Warn of rows whose id an earlier one has. first: the first of them, and where it is."""
    text = "rows have the id of another, their places are appended"
    log.warning("%s: %d of %d %s; the first: %s", what, count, total, text, first)


def report_split(
    rows: int, bad: list[str], others: Counter[str], *, split: str | None, phase: str | None, what: str
) -> None:
    """After a manifest was read: so many rows are kept, these are bad, and others are of another split (its name as it is shown,
    and how many). Raises ValueError where none is kept. split, phase: as of `read_manifest`."""
    report_bad(bad, total=rows + len(bad), what=what)
    wanted = repr(split) if split is not None else f"for {phase}"
    log_skipped(others.total(), rows + len(bad) + others.total(), what=what, why=f"their split is not {wanted}")
    if not rows:
        raise ValueError(f"{what}: no rows" + _no_split(wanted, others, split=split))


def _no_split(wanted: str, others: Counter[str], *, split: str | None) -> str:
    """Where rows of other splits alone were found: the splits that there are."""
    if not others:
        return "" if split is None else f" with split {wanted}"
    splits = ", ".join(f"{name} ({count} rows)" for name, count in others.most_common(10))
    remedy = "name one of them, data.train_split=, val_split=, test_split=, or other data"
    return f" with split {wanted}; there are {splits}: {remedy}"
