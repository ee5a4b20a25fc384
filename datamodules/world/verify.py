"""Checking a world on disk: its files are those of its fingerprint, its splits are disjoint, its answers balanced.

Nothing here trusts the generator: files are read back, and held-out pairs are searched in what was written.
"""

import dataclasses
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.world.build import read_fingerprint, shard_hashes
from datamodules.world.lexicon import COLOURS, PLURALS, SHAPES
from datamodules.world.scene import Pairs
from datamodules.world.spec import VERSION, WorldSpec

Row = dict[str, Any]
TRAINED = ("train", "val")
CHANCES = {"colour": 8, "shape": 6, "count": 4, "where": 9, "relation": 2}
TOLERANCE = 0.06  # of the commonest answer's share over chance, in addition to three standard errors
FEWEST = 100  # items of the same words, to judge their balance
_SHAPE_WORDS = {word: shape for shape in SHAPES for word in (shape, PLURALS[shape])}
_PAIR = re.compile(rf"\b({'|'.join(COLOURS)}) ({'|'.join(sorted(_SHAPE_WORDS, reverse=True))})\b")


def verify_world(root: Path | str) -> list[str]:
    """What is wrong with the world at `root`, a line each; empty when nothing is.

    Raises FileNotFoundError where there is no world.
    """
    root = Path(root)
    fingerprint = read_fingerprint(root)
    if not fingerprint["parts"]:
        raise FileNotFoundError(f"{root}: no fingerprint.json, so no finished world")
    if fingerprint["version"] != VERSION:
        return [f"{root}: made by version {fingerprint['version']} of the generator, this is {VERSION}"]
    spec = WorldSpec(**fingerprint["spec"])
    problems = [] if root.name == spec.folder() else [f"{root}: the folder of this spec is named {spec.folder()}"]
    pairs = Pairs(rotation=spec.rotation, held_out=spec.held_out)
    for part, hashes in fingerprint["parts"].items():
        problems += _files(root / part, part, hashes)
        problems += _held_out(root / part, pairs)
        problems += _disjoint(root / part, {"text": "text", "writing": "text", "speech": "text"}.get(part))
        problems += _media(root / part)
    if {"text", "speech"} <= set(fingerprint["parts"]):
        problems += _said_again(root)
    if "instructions" in fingerprint["parts"]:
        problems += _balance(root / "instructions")
        problems += _complements(root / "instructions")
    return problems


def rows(path: Path) -> Iterator[Row]:
    """The rows of a manifest."""
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file)


def _files(folder: Path, part: str, hashes: dict[str, str]) -> list[str]:
    found = shard_hashes(folder)
    names = sorted({*found, *hashes})
    return [f"{part}/{name}: differs from the fingerprint" for name in names if found.get(name) != hashes.get(name)]


def _texts(row: Row) -> Iterator[str]:
    """Everything that a row says."""
    yield from (row[key] for key in ("text", "prompt", "answer") if key in row)
    yield from row.get("captions", ())
    for message in row.get("messages", ()):
        yield from (part["text"] for part in message["content"] if "text" in part)
    yield row.get("meta", {}).get("spoken", "")


def _held_out(folder: Path, pairs: Pairs) -> list[str]:
    """Training and validation name or show a held-out pair nowhere."""
    names = {(COLOURS[colour], SHAPES[shape]) for colour, shape in pairs.held_out}
    problems = []
    for split in TRAINED:
        for row in rows(folder / f"{split}.jsonl"):
            said = {(c, _SHAPE_WORDS[s]) for text in _texts(row) for c, s in _PAIR.findall(text)}
            shown = {(thing["colour"], thing["shape"]) for thing in row.get("objects", ())}
            problems += [f"{row['id']}: {' '.join(pair)} is held out" for pair in sorted((said | shown) & names)]
    return problems


def _content(row: Row, key: str | None) -> object:
    if key is not None:
        return row[key]
    if row.get("objects"):
        return tuple(sorted((t["cell"], str(t["colour"]), t["shape"], t["size"]) for t in row["objects"]))
    return None


def _disjoint(folder: Path, key: str | None) -> list[str]:
    """No document, sentence or scene of a test is one of training or validation. (Instructions reuse these.)"""
    problems: list[str] = []
    seen: dict[object, str] = {}
    for path in sorted(folder.glob("*.jsonl"), key=lambda path: (not path.stem.startswith(TRAINED), path.stem)):
        if path.stem.startswith("qa_") or folder.name == "instructions":
            continue
        kind = path.stem.split("_")[0]
        for row in rows(path):
            content = _content(row, key)
            if content is not None and seen.setdefault(content, kind) != kind:
                problems.append(f"{folder.name}/{path.name}: {row['id']} occurs in {seen[content]} too")
    return problems


def _said_again(root: Path) -> list[str]:
    """No text of a test of speech is one that a document of training says again."""
    tests = {row["text"] for path in (root / "speech").glob("test*.jsonl") for row in rows(path)}
    said = (
        (row["id"], row["text"].split(" answer: "))
        for row in rows(root / "text" / "train.jsonl")
        if row["kind"] == "say"
    )
    return [f"text/train.jsonl: {name} says a text of speech/test again" for name, (*_, text) in said if text in tests]


def _media(folder: Path) -> list[str]:
    """Every file that a manifest names is there."""
    problems = []
    for path in sorted(folder.glob("*.jsonl")):
        for row in rows(path):
            parts = [row] + [part for message in row.get("messages", ()) for part in message["content"]]
            names = {part[key] for part in parts for key in ("image", "audio") if key in part}
            problems += [f"{row['id']}: no file {name}" for name in sorted(names) if not (folder / name).is_file()]
    return problems


def _balance(folder: Path) -> list[str]:
    """Given the type of a question and its words, no answer is much commoner than the others."""
    by_type: dict[str, Counter[str]] = defaultdict(Counter)
    by_words: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows(folder / "train.jsonl"):
        kind = row["meta"]["question"]
        if row["task"] == "image_qa" and kind in CHANCES:
            by_type[kind][row["answer"]] += 1
            by_words[kind, row["messages"][0]["content"][1]["text"]][row["answer"]] += 1
    problems = []
    groups = [(kind, kind, counts) for kind, counts in by_type.items()]
    groups += [(kind, words, counts) for (kind, words), counts in by_words.items()]
    for kind, name, counts in groups:
        total, (answer, most) = counts.total(), counts.most_common(1)[0]
        chance = 1 / CHANCES[kind]
        # a colour that names the object rules out the shapes held out with it, so some answers share the rest
        limit = chance + TOLERANCE + 3 * math.sqrt(chance * (1 - chance) / total)
        if total >= FEWEST and most / total > limit:
            problems.append(f"instructions: {name!r} is answered {answer!r} in {most} of {total} items")
    return problems


def _complements(folder: Path) -> list[str]:
    """The two questions of a pair have the same words, two pictures and two answers."""
    problems = []
    for path in sorted(folder.glob("test_*.jsonl")):
        pairs: dict[str, list[Row]] = defaultdict(list)
        for row in rows(path):
            if row["meta"].get("pair") is not None:
                pairs[row["meta"]["pair"]].append(row)
        for name, members in pairs.items():
            parts = [row["messages"][0]["content"] for row in members]
            same_words = len({part[1]["text"] for part in parts}) == 1
            if len(members) != 2 or not same_words or len({row["answer"] for row in members}) != 2:
                problems.append(f"{path.name}: {name} is not a complementary pair")
    return problems


def describe_world(root: Path) -> str:
    """A table of a world's manifests and how many rows each has, with its options."""
    fingerprint = read_fingerprint(root)
    lines = [str(root)]
    for part in fingerprint["parts"]:
        counts = {path.stem: sum(1 for _ in rows(path)) for path in sorted((root / part).glob("*.jsonl"))}
        lines.append(f"  {part:13s} " + "  ".join(f"{name} {count}" for name, count in counts.items()))
    options = dataclasses.asdict(WorldSpec(**fingerprint["spec"]))
    lines.append("  " + " ".join(f"{name}={value}" for name, value in options.items()))
    return "\n".join(lines)
