"""The Thinker as it was before a stage trained it, for comparison: loaded from its export when it is measured, so that no copy
takes memory while training."""

import copy
import logging
from typing import cast

import torch

from muomni.checkpoints.export import Export, is_export, load_export, weights_fingerprint
from muomni.models.thinker import Thinker

log = logging.getLogger(__name__)


class ReferenceThinker:
    """The Thinker of an export, whose own will be trained; where the folder holds none, a copy is kept."""

    def __init__(self, export: Export) -> None:
        thinker = export.modules["thinker"]
        self.folder = export.folder
        self._copy = None if is_export(self.folder) else copy.deepcopy(thinker)
        self._fingerprint = weights_fingerprint(thinker)
        self._loaded: Thinker | None = None
        self._gone = False

    def on(self, device: torch.device) -> Thinker | None:
        """Frozen, on that device; None, and a line in the log, where the export is no longer what the stage began with."""
        if self._loaded is None and not self._gone:
            try:
                thinker = self._copy or load_export(self.folder, ["thinker"]).modules["thinker"]
                if weights_fingerprint(thinker) != self._fingerprint:
                    raise ValueError(f"{self.folder} is another one by now")
                self._loaded = cast("Thinker", thinker.requires_grad_(False).eval())
            except (OSError, ValueError) as error:
                log.warning('the Thinker "before" is not measured: %s', error)
                self._gone = True  # logged once, not for every batch
        return None if self._loaded is None else self._loaded.to(device)

    def release(self) -> None:
        """Free the memory until it is measured again."""
        self._loaded = None
