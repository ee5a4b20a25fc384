"""Names of splits as others give them."""

import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

PHASES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
NUMBER = r"-\d+-of-\d+(?:-[0-9a-f]{16})?"  # of a shard; its hash in earlier data sets of the hub
SHARD = re.compile(rf".+{NUMBER}\.")
NAMED = re.compile(rf"([A-Za-z]+)(?:{NUMBER})?(?:\..*)?$")  # NAME, NAME.SUFFIX, NAME-1-of-2.SUFFIX
SPLITS = tuple(name for names in PHASES.values() for name in names)


def phase_of(split: object) -> str | None:
    """What a split is for, "train", "val" or "test", by its name or the name's beginning (train-clean-100); None where that
    does not say."""
    beginning = re.split(r"[-_.\d]", str(split).lower())[0]
    return next((phase for phase, names in PHASES.items() if beginning in names), None)


def split_files(path: Path, *, is_data: Callable[[Path], bool], shards: Sequence[str]) -> list[tuple[str | None, Path]]:
    """(split, file or folder) of a folder: what is named after splits (train.jsonl, dev/, train-00000-of-00002.parquet), of the
    folder data/ inside where there is none; or else the shards of one suffix, of no split; empty where there is neither.

    is_data: whether a file is of a known format. shards: suffixes of which a folder may hold many. Raises ValueError for two
    files of one split that are no shards, and for shards of several suffixes.
    """
    children = sorted(each for each in path.iterdir() if not each.name.startswith("."))
    named: list[tuple[str | None, Path]] = []
    for each in children:
        found = NAMED.match(each.name)
        if found and phase_of(found[1]) and (each.is_dir() or is_data(each)):
            named.append((found[1], each))
    for (split, one), (other, two) in itertools.pairwise(named):
        if split == other and not SHARD.match(one.name):
            raise ValueError(f"{path}: both {one.name} and {two.name}: name one of them")
    if named:
        return named
    files = [each for each in children if each.is_file() and any(_has_suffix(each, suffix) for suffix in shards)]
    suffixes = sorted({suffix for each in files for suffix in shards if _has_suffix(each, suffix)})
    if len(suffixes) > 1:
        raise ValueError(f"{path}: files of several formats ({', '.join(suffixes)}): name one of them")
    if not files and (path / "data").is_dir():
        return split_files(path / "data", is_data=is_data, shards=shards)
    return [(None, each) for each in files]


def _has_suffix(file: Path, suffix: str) -> bool:
    return suffix in (each.lower() for each in file.suffixes[-2:])
