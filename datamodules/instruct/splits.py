"""Which rows are for training, validation and test: what the data says, and a share of training where it says nothing."""

import os
from collections.abc import Sequence

from datamodules.formats.splits import SPLITS, phase_of
from datamodules.manifests import Row
from datamodules.media import AudioClip
from datamodules.world.rng import digest

VAL_SHARE = 0.03  # of training, where the data has no validation split of its own
TEST_SHARE = 0.1  # of data without splits


def split_rows(rows: Sequence[Row], *, media: str, seed: int, what: str) -> dict[str, list[Row]]:
    """Rows of "train", "val" and "test" by the name of their key `split`; without one, by the hash of the name of their
    recording or picture, so that all rows of one are in one split.

    Where validation alone is held out, it is the test: whoever held its speakers out meant no training to choose by them.
    media: the key of a row's file.

    Raises ValueError for a split of another name, and where nothing is left to train on.
    """
    found: dict[str, list[Row]] = {"train": [], "val": [], "test": []}
    for row in rows:
        phase: str | None = "test" if _share(row, media, seed) < TEST_SHARE else "train"
        if row.get("split") is not None:
            phase = phase_of(row["split"])
        if phase is None:
            raise ValueError(f"{what}: {row['id']}: unknown split {row['split']!r}; known: {', '.join(SPLITS)}")
        found[phase].append(row)
    if not found["test"]:
        found["test"], found["val"] = found["val"], []
    if not found["val"]:
        shares = [(row, _share(row, media, seed + 1)) for row in found["train"]]
        found["val"] = [row for row, share in shares if share < VAL_SHARE]
        found["train"] = [row for row, share in shares if share >= VAL_SHARE]
    if not found["train"]:
        raise ValueError(f"{what}: no row of the split train: nothing to learn from")
    return found


def _share(row: Row, media: str, seed: int) -> float:
    """0 to 1, a function of the name of the row's file."""
    medium = row[media]
    name = medium.container if isinstance(medium, AudioClip) else str(medium)
    return digest(seed, "instruct", os.path.basename(name)) / 2**64
