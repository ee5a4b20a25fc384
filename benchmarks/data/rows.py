"""A datamodule whose samples are the rows themselves: what reading costs, without decoding or tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.base import DataModule
from datamodules.manifests import RowSet


class RowSamples(RowSet):
    def item(self, index: int, epoch: int) -> dict[str, Any]:
        return self.rows[index]


class RowData(DataModule):
    """Rows of shape text."""

    def load(self, path: Path, split: str | None, *, phase: str) -> RowSamples:
        return RowSamples(self.read_rows(path, split, shape="text", phase=phase))

    def collate(self, samples: Sequence[Any]) -> list[Any]:
        return list(samples)
