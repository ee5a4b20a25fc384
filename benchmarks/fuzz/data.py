"""Targets: manifests of every shape and format, texts, n-grams."""

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

from benchmarks.fuzz.harness import Target
from benchmarks.fuzz.media import image_seeds, sound_seeds
from benchmarks.fuzz.mutate import ODD, damage_bytes, damage_tree
from datamodules.manifests import read_manifest
from datamodules.shapes import CHECKS
from muomni.inference.asr.ngram import NGram, train_ngram

IMAGE, AUDIO = {"type": "image", "image": "a.png"}, {"type": "audio", "audio": "a.wav"}
WRITTEN = [{"type": "text", "text": "a circle"}]
#: Shape of a manifest -> rows of it.
ROWS: dict[str, list[Any]] = {
    "text": [{"text": "the circle is above"}, {"prompt": "where is ann?", "answer": "in the bag", "split": "train"}],
    "image_text": [
        {"image": "a.png", "captions": ["a red circle", "circle"]},
        {"image": "a.png", "caption": "a circle", "id": "x"},
    ],
    "speech": [{"audio": "a.wav", "text": "seven minus two"}, {"wav": "a.wav", "text": "ann", "speaker": "1"}],
    "ocr": [{"image": "a.png", "text": "circle"}],
    "sft": [
        {
            "messages": [
                {"role": "system", "content": "be short"},
                {"role": "user", "content": [IMAGE, *WRITTEN]},
                {"role": "assistant", "content": WRITTEN},
            ],
            "task": "colour",
            "meta": {"objects": [{"colour": "red"}]},
        },
        {"messages": [{"role": "user", "content": [AUDIO]}, {"role": "assistant", "content": "seven"}]},
    ],
}
#: What a cell of an ARPA file becomes.
NUMBERS = ("nan", "inf", "-inf", "0.5", "1e9", "-99", "-0.5 -0.5")
CELLS = (*NUMBERS, "", "x", "ngram 1=999999999999", "\\9-grams:", "\\end\\", "<s>", "\x00", "É")
TEXT = ("the red circle is above the blue square", "where does ann live", "seven minus two is five")


def make_manifest(rng: random.Random, folder: Path) -> tuple[Path, str]:
    """A manifest of some shape and format, some of whose rows are odd, then perhaps its bytes."""
    (folder / "a.png").write_bytes(image_seeds()[0][1])
    (folder / "a.wav").write_bytes(sound_seeds()[0][1])
    shape, suffix = rng.choice(list(ROWS)), rng.choice((".jsonl", ".json", ".csv", ".txt", ".JSONL", ".parquet", ""))
    rows = [rng.choice(ROWS[shape]) for _ in range(rng.choice((1, 3, 200)))]
    if rng.random() < 0.7:
        odd = rng.randrange(len(rows))
        rows[odd] = damage_tree(rows[odd], rng)
    if rng.random() < 0.1:
        rows[0] = rng.choice(ODD)
    path = folder / f"rows{suffix}"
    content = _written(rows, suffix.lower(), rng)
    path.write_bytes(damage_bytes(content, rng) if rng.random() < 0.4 else content)
    return path, shape


def _written(rows: list[Any], suffix: str, rng: random.Random) -> bytes:
    encoding = rng.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"))
    if suffix == ".csv":
        file = io.StringIO()
        dicts = [row for row in rows if isinstance(row, dict)]
        names = sorted({str(name) for row in dicts for name in row})
        table = csv.writer(file, lineterminator=rng.choice(("\n", "\r\n", "\r")))
        table.writerow(names)
        table.writerows([[row.get(name, "") for name in names] for row in dicts])
        text = file.getvalue()
    elif suffix == ".json":
        text = json.dumps(rows, default=str)
    else:
        text = rng.choice(("\n", "\r\n", "\n\n")).join(json.dumps(row, default=str) for row in rows)
    return text.encode(encoding, errors="replace")


def read_rows(made: tuple[Path, str]) -> None:
    """Read it as its shape, or say which file cannot be."""
    path, shape = made
    assert shape in CHECKS
    read_manifest(path, shape=shape)


def make_ngram(rng: random.Random, folder: Path) -> Path:
    """An ARPA file of ours, as KenLM or SRILM write it, damaged as bytes or line by line."""
    path = folder / "lm.arpa"
    train_ngram(TEXT, order=rng.choice((1, 2, 3)), unit=rng.choice(("character", "word"))).save(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    for _ in range(rng.choice((0, 1, 1, 3))):
        at = rng.randrange(len(lines))
        cells = lines[at].split("\t")
        cells[rng.randrange(len(cells))] = rng.choice(CELLS)
        lines[at] = "\t".join(cells)
    content = rng.choice(("\n", "\r\n")).join(lines).encode()
    path.write_bytes(damage_bytes(content, rng) if rng.random() < 0.4 else content)
    return path


def ask_ngram(path: Path) -> None:
    """Load it and weigh a text: the logarithm of a probability is finite and below 0."""
    found = NGram.load(path).text_log_prob("the red circle")
    if not -1e6 < found <= 1e-6:
        raise ArithmeticError(f"the log-probability of a text is {found}")


TARGETS = (
    Target("manifest", make_manifest, read_rows, share=30),
    Target("ngram", make_ngram, ask_ngram, share=20),
)
