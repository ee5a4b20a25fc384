"""Checking a world on disk: its files are those of its fingerprint, its splits are disjoint, its answers balanced.

Nothing here trusts the generator: files are read back, and held-out pairs are searched in what was written.
"""

import dataclasses
import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

from datamodules.world.build import file_hashes, read_fingerprint
from datamodules.world.files import Row, read_rows
from datamodules.world.lexicon import COLOURS, PLURALS, SHAPES
from datamodules.world.scene import Pairs
from datamodules.world.spec import VERSION, WorldSpec
from datamodules.world.wording import held_out_synonyms

TRAINED = ("train", "val")
CHANCES = {"colour": 8, "shape": 6, "count": 4, "where": 9, "relation": 2}
TOLERANCE = 0.06  # of the most common answer's share over chance, in addition to three standard errors
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
    for subset, hashes in fingerprint["parts"].items():
        folder = root / subset
        problems += [*_changed(folder, hashes), *_held_out(folder, pairs), *_missing_media(folder)]
        if subset in ("pictures", "speech", "instructions"):
            problems += _held_out_words(folder, held_out_synonyms(spec.wording))
        if subset == "instructions":
            problems += [*_unbalanced(folder), *_no_complements(folder)]
        else:
            problems += _in_two_splits(folder)
    if {"text", "speech"} <= set(fingerprint["parts"]):
        problems += _said_again(root)
    return problems


def _rows(folder: Path, pattern: str = "*.jsonl") -> Iterator[tuple[Path, Row]]:
    """The rows of all manifests of a folder, those of training and validation first."""
    for path in sorted(folder.glob(pattern), key=lambda path: (not path.stem.startswith(TRAINED), path.stem)):
        yield from ((path, row) for row in read_rows(path))


def _changed(folder: Path, hashes: dict[str, str]) -> Iterator[str]:
    for name in sorted({name for name, _ in file_hashes(folder).items() ^ hashes.items()}):
        yield f"{folder.name}/{name}: differs from the fingerprint"


def _texts(row: Row) -> Iterator[str]:
    """Everything that a row says."""
    yield from (row[key] for key in ("text", "prompt", "answer") if key in row)
    yield from row.get("captions", ())
    for message in row.get("messages", ()):
        yield from (item["text"] for item in message["content"] if "text" in item)
    yield row.get("meta", {}).get("spoken", "")


def _held_out(folder: Path, pairs: Pairs) -> Iterator[str]:
    """Held-out pairs that training or validation names or shows."""
    names = {(COLOURS[colour], SHAPES[shape]) for colour, shape in pairs.held_out}
    for split in TRAINED:
        for row in read_rows(folder / f"{split}.jsonl"):
            said = {(c, _SHAPE_WORDS[s]) for text in _texts(row) for c, s in _PAIR.findall(text)}
            shown = {(thing["colour"], thing["shape"]) for thing in row.get("objects", ())}
            yield from (f"{row['id']}: {' '.join(pair)} is held out" for pair in sorted((said | shown) & names))


def _held_out_words(folder: Path, words: Collection[str]) -> Iterator[str]:
    """Synonyms of test_para that training or validation uses."""
    for split in TRAINED:
        for row in read_rows(folder / f"{split}.jsonl"):
            used = {word for text in _texts(row) for word in re.findall("[a-z]+", text.lower())} & set(words)
            yield from (f"{row['id']}: the word {word!r} is held out" for word in sorted(used))


def _in_two_splits(folder: Path) -> Iterator[str]:
    """Documents, sentences or scenes of a test that are in training or validation too. (Instructions reuse these.)"""
    seen: dict[object, str] = {}
    for path, row in _rows(folder):
        content = row.get("text")  # the questions of qa_*.jsonl have none
        if row.get("objects"):
            content = tuple(sorted((t["cell"], str(t["colour"]), t["shape"], t["size"]) for t in row["objects"]))
        split = path.stem.split("_")[0]
        if content is not None and seen.setdefault(content, split) != split:
            yield f"{folder.name}/{path.name}: {row['id']} occurs in {seen[content]} too"


def _said_again(root: Path) -> Iterator[str]:
    """Texts of a test of speech that a document of training says again."""
    tests = {row["text"] for _, row in _rows(root / "speech", "test*.jsonl")}
    for row in read_rows(root / "text" / "train.jsonl"):
        if row["kind"] == "say" and row["text"].split(" answer: ")[-1] in tests:
            yield f"text/train.jsonl: {row['id']} says a text of speech/test again"


def _missing_media(folder: Path) -> Iterator[str]:
    """Files that a manifest names and that are not there."""
    for _, row in _rows(folder):
        items = [row] + [item for message in row.get("messages", ()) for item in message["content"]]
        names = {item[key] for item in items for key in ("image", "audio") if key in item}
        yield from (f"{row['id']}: no file {name}" for name in sorted(names) if not (folder / name).is_file())


def _unbalanced(folder: Path) -> Iterator[str]:
    """Answers much more common than the others to a type of question, or to the same words."""
    answers: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in read_rows(folder / "train.jsonl"):
        question_type = row["meta"]["question"]
        if row["task"] == "image_qa" and question_type in CHANCES:
            for words in (question_type, row["meta"]["canonical"]):
                answers[question_type, words][row["answer"]] += 1
    for (question_type, words), counts in answers.items():
        total, (answer, most) = counts.total(), counts.most_common(1)[0]
        chance = 1 / CHANCES[question_type]
        # a colour that names the object rules out the shapes held out with it, so some answers share the rest
        limit = chance + TOLERANCE + 3 * math.sqrt(chance * (1 - chance) / total)
        if total >= FEWEST and most / total > limit:
            yield f"instructions: {words!r} is answered {answer!r} in {most} of {total} items"


def _no_complements(folder: Path) -> Iterator[str]:
    """Pairs whose two questions do not have the same words and two answers."""
    pairs: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for path, row in _rows(folder, "test_*.jsonl"):
        if row["meta"].get("pair") is not None:
            pairs[path.name, row["meta"]["pair"]].append(row)
    for (manifest, name), rows in pairs.items():
        words = {row["messages"][0]["content"][1]["text"] for row in rows}
        if (len(rows), len(words), len({row["answer"] for row in rows})) != (2, 1, 2):
            yield f"{manifest}: {name} is not a complementary pair"


def describe_world(root: Path) -> str:
    """A table of a world's manifests and how many rows each has, with its options."""
    fingerprint = read_fingerprint(root)
    lines = [str(root)]
    for subset in fingerprint["parts"]:
        counts = Counter(path.stem for path, _ in _rows(root / subset))
        lines.append(f"  {subset:13s} " + "  ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    options = dataclasses.asdict(WorldSpec(**fingerprint["spec"]))
    lines.append("  " + " ".join(f"{name}={value}" for name, value in options.items()))
    return "\n".join(lines)
