"""What the checker reports: findings, options to set, and the numbers of each split.

A finding is an error where training refuses the data or a result on it would be wrong, a warning where something is lost or
odd, and a note where it is only worth knowing.
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from datamodules.manifests import MAX_BAD_SHARE

SCHEMA = 1  # of the JSON document; raised where a key is renamed or removed
EXAMPLES = 3  # of a finding


class Severity(StrEnum):
    """How much a finding matters; in the order of a report."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """check: a stable name of what was tested. split: "train", "val", "test/NAME", or "" for all together. what: one sentence.
    where: the first places, as FILE:LINE or names of files. remedy: the way out, best an option. count of total: how many."""

    severity: Severity
    check: str
    split: str
    what: str
    where: Sequence[str] = ()
    remedy: str = ""
    count: int = 1
    total: int = 1


@dataclass(frozen=True, kw_only=True)
class Setting:
    """An option to set, and why."""

    option: str
    value: int | float | str
    why: str

    @property
    def override(self) -> str:
        """As it is pasted after `train.py`."""
        value = f"{self.value:g}" if isinstance(self.value, float) else self.value
        return shlex.quote(f"{self.option}={value}")


@dataclass(frozen=True, kw_only=True)
class Bars:
    """A histogram: bins of (low, high, count), the last of all that is longer."""

    title: str
    unit: str
    split: str
    bins: Sequence[tuple[float, float, int]]


@dataclass(kw_only=True)
class Report:
    """Everything that was found. sample: rows of each split that were looked at, at most; None: all."""

    stage: str
    data: str
    sample: int | None
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    histograms: list[Bars] = field(default_factory=list)

    def of(self, severity: Severity) -> Iterator[Finding]:
        """The findings of a severity, those of the largest share first."""
        found = [finding for finding in self.findings if finding.severity == severity]
        yield from sorted(found, key=lambda finding: -finding.count / max(1, finding.total))

    @property
    def failed(self) -> bool:
        """True if there is an error."""
        return any(finding.severity == Severity.ERROR for finding in self.findings)

    def document(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        ordered = [finding for severity in Severity for finding in self.of(severity)]
        return {
            "schema": SCHEMA,
            "stage": self.stage,
            "data": self.data,
            "sample": self.sample,
            "seconds": round(self.seconds, 2),
            "passed": not self.failed,
            "counts": {str(severity): sum(1 for _ in self.of(severity)) for severity in Severity},
            "findings": [asdict(finding) | {"where": list(finding.where)} for finding in ordered],
            "settings": [asdict(each) | {"override": each.override} for each in self.settings],
            "splits": self.splits,
            "histograms": [asdict(each) for each in self.histograms],
        }


def by_share(count: int, total: int) -> Severity:
    """As training has it: over 1 % of unusable samples is an error."""
    return Severity.ERROR if count > MAX_BAD_SHARE * total else Severity.WARNING
