"""What was odd about a manifest's recordings: one line a cause, however many files it concerns."""

import logging
from collections.abc import Sequence

log = logging.getLogger(__name__)


class AudioWarnings:
    """Collects the remarks of `read_sound`; what: the name of the data in the log."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._found: dict[str, list[str]] = {}

    def add(self, name: str, remarks: Sequence[str]) -> None:
        """The remarks on one recording."""
        for remark in remarks:
            self._found.setdefault(remark, []).append(name)

    def report(self) -> None:
        """Say them."""
        for remark, names in sorted(self._found.items()):
            log.warning("%s: %d recordings: %s; the first: %s", self.what, len(names), remark, min(names))
