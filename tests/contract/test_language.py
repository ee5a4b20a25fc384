"""A ratchet on words that are translated rather than English: none may be used more often than today.

Each number is how often a word stands in code, configuration and documents, outside of the world (its texts are data) and of
`ALLOWED` phrases. Lower a number when the count falls; never raise one: say it in plain English (CONTRIBUTING.md).
"""

import functools
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (
    "muomni",
    "datamodules",
    "callbacks",
    "benchmarks",
    "conf",
    "docs",
    "train.py",
    "infer.py",
    "serve.py",
    "README.md",
    "Makefile",
)
#: Texts of the world are data, results are what a run printed.
SKIPPED = ("datamodules/world/", "benchmarks/results/", "docs/experiments/")
#: word -> (times that it may stand, what to say).
HUNTED = {
    "shall": (0, "must, will"),
    "anew": (0, "again"),
    "gives itself": (0, "returns itself"),
    "lies": (0, "is"),
    "behind": (4, "after"),
    "beside": (8, "next to, compared with, besides"),
    "hears": (10, "(of a model) takes audio"),
    "sees": (3, "(of a model) takes an image, attends to"),
    "likeliest": (0, "most likely"),
    "made-up": (0, "generated, invented"),
    "rooms?": (30, "package"),
    "asked": (15, "(of a value) target, requested"),
    "goes on": (6, "resumes, continues"),
    "mended?": (1, "fixed"),
    "lent": (0, "supplied by"),
}
#: Phrases in which a word is right.
ALLOWED = (
    r"asked for help", r"questions? (?:is|are|was|were) asked", r"behind a (?:flag|proxy)", r"left behind",
)  # fmt: skip


@functools.cache
def sentences() -> list[tuple[str, str]]:
    """`file:line` and text of each line that is read."""
    done = subprocess.run(["git", "ls-files", *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    allowed = re.compile("|".join(ALLOWED))
    lines = []
    for name in done.stdout.splitlines():
        path = ROOT / name
        if not name.startswith(SKIPPED) and path.suffix in (".py", ".md", ".yaml", "") and path.is_file():
            for number, line in enumerate(path.read_text().splitlines(), 1):
                lines.append((f"{name}:{number}", allowed.sub("", line)))
    return lines


@pytest.mark.parametrize("word", HUNTED)
def test_a_hunted_word_is_not_used_more_often(word):
    most, instead = HUNTED[word]
    pattern = re.compile(rf"(?<![\w-]){word}(?![\w-])", re.IGNORECASE)
    found = [where for where, line in sentences() for _ in pattern.findall(line)]
    assert len(found) <= most, (
        f"{word!r} stands {len(found)} times, {most} before: {instead}. The lines: {' '.join(found)}"
    )
