"""What data a run was trained on: a resumed run must find the same, since its position in it means nothing elsewhere.

A digest of the file's bytes (of a large one its size and 256 blocks spread over it; of a pack its index, which has the digests
of its shards), so that a copy on another machine is the same data; with the number of samples that were made of it, that an edit
is found wherever it is. Media are not read: an image that is replaced under its name is not noticed.
"""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.formats.folders import AUDIO_SUFFIXES, IMAGE_SUFFIXES
from datamodules.packs.index import INDEX, is_pack

log = logging.getLogger(__name__)

WHOLE = 64 << 20  # bytes of a file that is read whole
MEDIA = (*AUDIO_SUFFIXES, *IMAGE_SUFFIXES)
BLOCKS, BLOCK = 256, 64 << 10  # of a larger one


def digest(path: Path | str) -> str:
    """16 hex digits of a file's content, or of what is under a folder: all names and sizes, and the content of what is no image
    and no recording; "none" where there is neither."""
    path = Path(path)
    if is_pack(path):
        path = path / INDEX
    state = hashlib.blake2b(digest_size=8)
    if path.is_dir():
        for each in sorted(each for each in path.rglob("*") if each.is_file()):
            content = "" if each.suffix.lower() in MEDIA else digest(each)
            state.update(f"{each.relative_to(path)}\0{each.stat().st_size}\0{content}".encode())
        return state.hexdigest()
    if not path.is_file():
        return "none"
    size = path.stat().st_size
    state.update(f"{size}\0".encode())
    with path.open("rb") as file:
        if size <= WHOLE:
            state.update(file.read())
            return state.hexdigest()
        for block in range(BLOCKS):
            file.seek((size - BLOCK) * block // (BLOCKS - 1))
            state.update(file.read(BLOCK))
    return state.hexdigest()


def digests(sources: Mapping[str, Any]) -> dict[str, str]:
    """Of the files that are trained on, or choose the best checkpoint, by what they are for. Of conversations that are made of
    labelled data, this data."""
    learnt: dict[str, Any] = {name: sources.get(name) for name in ("train", "val", "replay")}
    if made := sources.get("instruct"):
        named = {key: made.get(key) or () for key in ("speech", "images")}
        listed = {key: [paths] if isinstance(paths, str) else list(paths) for key, paths in named.items()}
        learnt = {f"instruct.{key}.{n}": path for key, paths in listed.items() for n, path in enumerate(paths)}
    return {name: digest(path) for name, path in (learnt | _of_sets(sources)).items() if isinstance(path, str | Path)}


def _of_sets(sources: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `data.sets`, by name; of a datamodule's sources they have such names already."""
    paths = {name: path for name, path in sources.items() if name.startswith("sets.")}
    for name, given in (sources.get("sets") or {}).items():
        both = {"train": given} if isinstance(given, str) else given
        paths |= {f"sets.{name}.{key}": both.get(key) for key in ("train", "val")}
    return paths


def changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What differs between the data of a run and that of a command, in words; None where nothing does. Both: `files` (digests
    by what they are for), `names` (paths, likewise), `samples` (of training) and `seed` (of their order); what is not known
    is the same."""
    files = [name for name, value in was.get("files", {}).items() if now["files"].get(name, value) != value]
    found = [f"data.{name} is another file than when it began{_names(name, was, now)}" for name in files]
    if was.get("samples", now["samples"]) != now["samples"]:
        found.append(f"there were {was['samples']} training rows, now there are {now['samples']}")
    if was.get("seed", now["seed"]) != now["seed"]:
        found.append(f"datamodule.seed was {was['seed']}, now {now['seed']}")
    return ", ".join(found) or None


def _names(name: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Its paths, where they are known: ": was A, is B", or ": A"."""
    before, after = (each.get("names", {}).get(name) for each in (was, now))
    if before is None or after is None:
        return ""
    return f": {after}" if before == after else f": was {before}, is {after}"


def refuse_other_data(was: Mapping[str, Any], now: Mapping[str, Any], *, path: str, named: bool) -> None:
    """Raise ValueError for other data than that of the run that checkpoint `path` belongs to; a warning, where the user named
    it."""
    changed = changes(was, now)
    if changed is None:
        return
    if not named:
        raise ValueError(
            f"the data has changed since this run began ({changed}): resume=never begins a new run, resume={path} goes "
            "on from this one's weights with the new data, and with the old data back the same command continues"
        )
    what = "going on with the new data from the begin of an epoch"
    log.warning("resume=%s: its run had other data (%s); %s", path, changed, what)
