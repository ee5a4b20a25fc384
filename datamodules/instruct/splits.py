"""Which rows are for training, validation and test: what the data says, and a share of training where it says nothing."""

import os
from collections.abc import Sequence

from datamodules.manifests import Row
from datamodules.world.rng import digest

NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "dev": "test", "test": "test", "eval": "test",
}  # fmt: skip
VAL_SHARE = 0.03  # of training, where the data has no validation split of its own
TEST_SHARE = 0.1  # of data without splits


def split_rows(rows: Sequence[Row], *, media: str, seed: int, what: str) -> dict[str, list[Row]]:
    """Rows of "train", "val" and "test" by their key `split`; without one, by the hash of the name of their recording or
    picture, so that all rows of one are in one split.

    A data set with train and dev alone is tested with its dev: whoever held those speakers out meant them to be heard by
    no training, validation included. media: the key of a row's file.

    Raises ValueError for a split of another name, and where nothing is left to train on.
    """
    found: dict[str, list[Row]] = {"train": [], "val": [], "test": []}
    for row in rows:
        name = row.get("split")
        if name is None:
            name = "test" if _share(row[media], seed) < TEST_SHARE else "train"
        if name not in NAMES:
            raise ValueError(f"{what}: {row['id']}: unknown split {name!r}; known: {', '.join(NAMES)}")
        found[NAMES[name]].append(row)
    if not found["val"]:
        held = [row for row in found["train"] if _share(row[media], seed + 1) < VAL_SHARE]
        kept = {id(row) for row in held}
        found["val"], found["train"] = held, [row for row in found["train"] if id(row) not in kept]
    if not found["train"]:
        raise ValueError(f"{what}: no row of the split train: nothing to learn from")
    return found


def _share(path: str, seed: int) -> float:
    return digest(seed, "instruct", os.path.basename(path)) / 2**64
