"""The Thinker as it came to a stage that trains it, for comparison: read again from its export when it is measured, so that no
copy takes memory while training."""

import copy
import logging
from pathlib import Path
from typing import Any

import torch

from muomni.checkpoints.export import is_export, load_export, weights_fingerprint
from muomni.models.thinker import Thinker

log = logging.getLogger(__name__)


class ThinkerBefore:
    """What the stage's Thinker was.

    Args:
        export: `parts["thinker"]`, which will be trained, and `folder`, where it came from. Without an export there, a copy is
            kept.
    """

    def __init__(self, export: Any) -> None:
        thinker = export.parts["thinker"]
        self.folder = Path(export.folder)
        self._copy = None if is_export(self.folder) else copy.deepcopy(thinker)
        self._fingerprint = weights_fingerprint(thinker)
        self._known: Thinker | None = None
        self._gone = False

    def on(self, device: torch.device) -> Thinker | None:
        """Frozen, on that device; None, and a line in the log, where the export is no longer what the stage began with."""
        if self._known is None and not self._gone:
            self._known = self._read()
            self._gone = self._known is None  # said once, not of every batch
        return None if self._known is None else self._known.to(device)

    def forget(self) -> None:
        """Measured: the memory is free again."""
        self._known = None

    def _read(self) -> Thinker | None:
        thinker: Any = self._copy
        if thinker is None:
            try:
                thinker = load_export(self.folder, ["thinker"]).parts["thinker"]
            except (OSError, ValueError) as error:
                log.warning('the Thinker "before" is not measured: %s', error)
                return None
            if weights_fingerprint(thinker) != self._fingerprint:
                log.warning('the Thinker "before" is not measured: %s is another one by now', self.folder)
                return None
        thinker.requires_grad_(False).eval()
        assert isinstance(thinker, Thinker)
        return thinker
