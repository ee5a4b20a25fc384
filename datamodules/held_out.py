"""Whether validation reads what training learns, which says nothing of other data."""

from pathlib import Path
from typing import Any


def reads_training_rows(data: Any, path: str) -> bool:
    """True if validation on `path`, which a datamodule has read, reads the very rows that its training does."""
    train, splits = data.train, data.splits or {}
    if train is None or Path(path) != Path(train) or splits.get("val") != splits.get("train") or data.holds_out:
        return False
    rows = getattr(data.samples("val"), "rows", None)
    return splits.get("val") is not None or Path(path).is_file() or bool(rows and "split" not in rows[0])
