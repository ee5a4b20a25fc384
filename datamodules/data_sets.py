"""Several named data sets that are trained on together (`data.sets`, `data.mixture`), and validated on one by one."""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.fault_tolerant_loader import SampleSet
from datamodules.formats import Reading
from datamodules.mixture_sampler import MixtureSampler, exact_shares


@dataclass(frozen=True)
class DataSet:
    """train, val: manifests; val None: it is not validated on. options: attributes of the datamodule while it is read, as its
    root and its splits. share: of the training samples."""

    name: str
    train: str
    val: str | None
    options: Mapping[str, Any]
    share: Fraction


def data_sets(
    data: Mapping[str, Any], *, splits: Mapping[str, str | None], reading: Callable[[Mapping[str, Any]], Reading]
) -> list[DataSet]:
    """`data.sets` and `data.mixture` of a configuration; none: []. A set is a path, or `train` with any of `val`, `root`,
    `train_split`, `val_split` and what else the data takes; what it does not say is that of `data`.

    splits: of the data. reading: its keys -> how manifests are read. Raises ValueError naming the key.
    """
    sets, weights = data.get("sets"), data.get("mixture")
    if not sets and not weights:
        return []
    if not sets or not weights or set(sets) != set(weights):
        named = f"{', '.join(sets or ()) or 'none'}; weights of {', '.join(weights or ()) or 'none'}"
        raise ValueError(f"data.sets and data.mixture name the same sets: there are sets {named}")
    if data.get("train") is not None:
        raise ValueError(f"data.train={data['train']} and data.sets: give one of them")
    shares, own = exact_shares(weights), [key for key in data if key not in OTHERS]
    found = []
    for name, given in sets.items():
        options = {"train": given} if isinstance(given, str) else dict(given or {})
        if re.fullmatch(r"\w+", name, re.ASCII) is None:
            raise ValueError(f"data.sets.{name}: metrics are named by it: letters, digits and _")
        unknown = set(options) - {"train", "val", "train_split", "val_split", *own}
        if unknown or not options.get("train"):
            wrong = f"unknown {', '.join(sorted(unknown))}" if unknown else "no train"
            raise ValueError(f"data.sets.{name}: {wrong}; a set is a path, or {{train: PATH, val: .., root: .., ..}}")
        both = {key: split_name(options.get(f"{key}_split", splits[key])) for key in ("train", "val")}
        val = options.get("val") or (options["train"] if both["val"] is not None else None)
        ours = {key: options.get(key, data.get(key)) for key in own}
        further = {"root": ours.get("root"), "reading": reading(ours), "splits": {**splits, **both}}
        found.append(DataSet(name, options["train"], val, further, shares[name]))
    return found


def split_name(given: Any) -> str | None:
    """The value of `data.train_split=` and its like as rows have it; None: all rows."""
    return None if given is None else str(given)


#: Keys of `data` that are no options of a single set.
OTHERS = (
    "kind", "sets", "mixture", "mixture_within", "train", "val", "test", "replay", "train_split", "val_split", "test_split",
)  # fmt: skip


class Concatenation:
    """The samples of several sets one after the other. names: theirs."""

    def __init__(self, names: Sequence[str], members: Sequence[SampleSet]) -> None:
        self.names, self.members = list(names), list(members)
        self.starts = [0, *itertools.accumulate(map(len, members))]

    def __len__(self) -> int:
        return self.starts[-1]

    def _find(self, index: int) -> tuple[int, int]:
        """Sample `index` -> its set, and its index there."""
        number = next(k for k, end in enumerate(self.starts[1:]) if index < end)
        return number, index - self.starts[number]

    def item(self, index: int, epoch: int) -> Any:
        """The sample, as drawn in an epoch of its own set."""
        number, own = self._find(index)
        return self.members[number].item(own, epoch)

    def name(self, index: int) -> str:
        number, own = self._find(index)
        return f"{self.names[number]}: {self.members[number].name(own)}"

    def held_out_batches(self, size: int) -> tuple[list[list[int]], list[str]]:
        """Indices of batches, each of one set, the sets in turn; and the set of each."""
        of_set = []
        for name, start, end in zip(self.names, self.starts, self.starts[1:], strict=False):
            of_set.append([(list(range(a, min(a + size, end))), name) for a in range(start, end, size)])
        turns = [each for turn in itertools.zip_longest(*of_set) for each in turn if each is not None]
        return [indices for indices, _ in turns], [name for _, name in turns]


@contextmanager
def as_set(data: Any, member: DataSet) -> Iterator[None]:
    """While a set is read, its options are those of the datamodule."""
    options = {key: value for key, value in member.options.items() if hasattr(data, key)}
    before = {key: getattr(data, key) for key in options}
    try:
        for key, value in options.items():
            setattr(data, key, value)
        yield
    finally:
        for key, value in before.items():
            setattr(data, key, value)


def read_sets(data: Any, members: Sequence[DataSet], phase: str) -> "Concatenation":
    """The samples of sets, each read by a datamodule with its own root, splits, .. phase: "train" or "val"."""
    read: list[SampleSet] = []
    for member in members:
        path = member.train if phase == "train" else member.val
        with as_set(data, member):
            read.append(data.load(Path(str(path)), (data.splits or {}).get(phase), phase=phase))
    return Concatenation([member.name for member in members], read)


def fingerprint_paths(sets: Sequence[DataSet]) -> dict[str, Any]:
    """What the files are for -> their paths."""
    return {
        f"sets.{each.name}.{key}": path for each in sets for key, path in (("train", each.train), ("val", each.val))
    }


def mixture_sampler(samples: Concatenation, sets: Sequence[DataSet], data: Any, **options: Any) -> MixtureSampler:
    """Of the training samples of some sets. data: the datamodule, which knows lengths and groups of the samples of one set."""
    members, lengths, groups, curricula = samples.members, [], list[list[int]](), []
    for member, start in zip(members, samples.starts, strict=False):
        lengths.append(data.lengths(member))
        groups += [[start + index for index in group] for group in data.groups(member) or ()]
        curricula.append(data.curriculum_mask(member))
    known = [each for each in lengths if each is not None]
    return MixtureSampler(
        len(samples),
        sizes=[len(member) for member in members],
        shares=[each.share for each in sets],
        within=data.mixture_within,
        lengths=np.concatenate(known) if len(known) == len(members) else None,
        groups=groups or None,
        curriculum=next((each for each in curricula if each is not None), None),
        **options,
    )


def check_paths(sets: Sequence[DataSet]) -> None:
    """Raise FileNotFoundError for a set that is not there, by name."""
    for each in sets:
        for key, path in (("train", each.train), ("val", each.val)):
            local = each.options["reading"].format is None  # else it may be a name on a hub
            if path is not None and local and not Path(path).exists():
                raise FileNotFoundError(f"data.sets.{each.name}.{key}={path}: no such file")
