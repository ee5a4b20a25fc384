"""Entries of a codebook that nothing uses.

Legend: N frames, K codebooks, E entries.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from callbacks.symptoms.base import CODECS, Observe, Symptom, learns


@dataclass(kw_only=True)
class DeadCodes(Symptom):
    """Most entries of a codebook are never used.

    used: smallest share of a codebook's entries that must occur among ten times as many codes, in (0, 1].
    """

    used: float
    _seen: Tensor | None = field(default=None, init=False)
    _frames: int = field(default=0, init=False)
    _last: str | None = field(default=None, init=False)

    def observer(self, module: nn.Module) -> Observe | None:
        if not learns(module, *CODECS):
            return None
        entries = int(module.codebook_size)  # type: ignore[arg-type]
        return lambda _, output: self._observe(output.codes.flatten(0, -2), entries)

    def _observe(self, codes: Tensor, entries: int) -> None:
        """codes (N, K)."""
        now = torch.zeros(codes.shape[1], entries, dtype=torch.bool, device=codes.device).scatter_(1, codes.T, True)
        self._seen = now if self._seen is None else self._seen | now
        self._frames += len(codes)

    def finding(self, stage: Any, batch: Any) -> str | None:
        """The least used codebook, checked whenever every entry could have been used many times."""
        if self._seen is None or self._frames < 10 * self._seen.shape[1]:
            return self._last
        used, size = self._seen.sum(dim=1).tolist(), self._seen.shape[1]
        self._seen, self._frames = None, 0
        worst = min(range(len(used)), key=used.__getitem__)
        self._last = None
        if used[worst] < self.used * size:
            self._last = (
                f"dead codes: codebook {worst} uses {used[worst]} of its {size} entries. Let codebooks follow averages and "
                "renew idle entries (backbone.codec.decay=0.9 backbone.codec.idle=0.1), lower optim.lr, or take a smaller "
                "backbone.codec.codebook_size (of codec=waveform: codec.decay, codec.idle, codec.codebook_size)"
            )
        return self._last
