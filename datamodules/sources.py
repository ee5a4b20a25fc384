"""Where a stage's data comes from: the embedded world, or manifests that the user names."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules.data_sets import data_sets, split_name
from datamodules.formats import Reading
from datamodules.instruct.made_once import make_instructions
from datamodules.world import SUBSETS, WorldSpec, build_world


def resolve_sources(data: Mapping[str, Any], *, stage: str, shape: str, world: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments `train`, `val`, `test`, `splits`, `root`, `reading` of the stage's datamodule, and `text` or `replay`
    where it takes one.

    data: the `data` group; of kind "world" it holds the fields of a WorldSpec.
    shape: of the manifests that the stage reads.
    world: where the stage finds its splits inside a world. A world is built where it is not there yet, and conversations are
    made of labelled data where `data.instruct` says of which.
    Raises ValueError when the data's shape does not fit the stage.
    """
    kind = data["kind"]
    if kind == "world":
        spec = WorldSpec.of(**{key: value for key, value in data.items() if key not in ("kind", "root")})
        root = build_world(spec, Path(data["root"]), subsets=world_subsets(world))
        found = {name: str(root / path) for name, path in world.items() if name != "test"}
        return {**found, "test": {name: str(root / path) for name, path in world["test"].items()}}
    if kind != shape:
        raise ValueError(f"data={kind} does not fit stage={stage}, which reads data={shape} (or data=world)")
    if data.get("instruct"):
        make_instructions(data["instruct"])
    splits = {name: split_name(data[f"{name}_split"]) for name in ("train", "val", "test")}
    sets = data_sets(data, splits=splits, reading=_reading)
    if sets and data["val"] is None and not any(each.val for each in sets):
        raise ValueError("data.sets: none is validated on: give data.val=PATH, data.val_split=NAME or the val of a set")
    test = data["test"]
    named = {} if test is None else {"test": test} if isinstance(test, str) else dict(test)
    further = {name: data.get(name) for name in world if name not in ("train", "val", "test")}
    return {
        **further,
        "train": data["train"],
        "val": data["val"] if data["val"] is not None else data["train"],
        "test": named,
        "splits": splits,
        "root": data.get("root"),  # text has no media
        "reading": _reading(data),
    } | ({"sets": sets, "mixture_within": _mixture_within(data)} if sets else {})


def _reading(data: Mapping[str, Any]) -> Reading:
    """How the user wants the manifests to be read. Raises ValueError naming the key."""
    columns = data.get("columns") or {}
    if not all(isinstance(name, str) and name for name in columns.values()):
        raise ValueError(f"data.columns={dict(columns)}: a table of KEY: NAME OF THE COLUMN is needed")
    shares = data.get("split_shares") or {}
    if not all(isinstance(share, int | float) for share in shares.values()):
        raise ValueError(f"data.split_shares={dict(shares)}: numbers are needed, as {{val: 0.01, test: 0.02}}")
    reading = Reading(format=data.get("format"), columns=dict(columns), split_shares=dict(shares))
    caption = data.get("class_caption")
    return reading if caption is None else replace(reading, class_caption=str(caption))


def _mixture_within(data: Mapping[str, Any]) -> str:
    """What has the shares of `data.mixture`. Raises ValueError naming the key."""
    within = str(data.get("mixture_within", "batch"))
    if within not in ("batch", "bucket"):
        raise ValueError(f"data.mixture_within={within}: choose batch or bucket")
    return within


def world_subsets(world: Mapping[str, Any]) -> tuple[str, ...]:
    """Subsets of the world that hold these splits; instructions need the media of the others."""
    paths = [path for name, path in world.items() if name != "test"] + [*world["test"].values()]
    subsets = {str(path).split("/")[0] for path in paths}
    if "instructions" in subsets:
        subsets |= {"text", "pictures", "speech"}
    return tuple(subset for subset in SUBSETS if subset in subsets)
