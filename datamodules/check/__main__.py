"""python -m datamodules.check data=speech data.train=asr.csv [stage=audio] [NAME=VALUE ...]

Checks the data that `train.py` with these words would train on: all rows and all media, on all cores.

  sample=N    a quick look: about N rows of each split, evenly spread
  out=FOLDER  write check.json and lengths.png there
  --json      print the report as one JSON document; progress stays on standard error

Exit code 0: no errors (there may be warnings), 1: errors, 2: the command itself is wrong.
"""

import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from muomni.cli.key_value import run_program
from muomni.user_path import user_path

FLAGS = ("--json",)
OWN = ("sample", "out")
WRONG_USAGE = 2


def main(words: list[str]) -> int:
    """Check; 0 or 1. Raises ValueError or FileNotFoundError for a wrong command."""
    own, rest = _own_options(words)
    sample = _positive("sample", own["sample"]) if "sample" in own else None
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("datamodules.manifests").addFilter(_said_by_the_report)
    from datamodules.check.command import checked_report, picture_folder  # after --help, which is to answer at once
    from datamodules.check.terminal import render

    report, cfg = checked_report(rest, sample=sample)
    out = user_path(own["out"]) if own.get("out") else picture_folder(rest, cfg)
    if out is not None:
        _write(report.document(), out)
    if "--json" in words:
        json.dump(report.document(), sys.stdout, indent=1, ensure_ascii=False)
        print()
    else:
        print(render(report), end="")
        if out is not None:
            print(f"\n{out / 'check.json'}, {out / 'lengths.png'}")
    return int(report.failed)


def _said_by_the_report(record: logging.LogRecord) -> bool:
    """Left out of standard error: what the readers of manifests say of rows."""
    return record.levelno >= logging.ERROR


def _own_options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """The options of the checker itself, and the words for Hydra."""
    own: dict[str, str] = {}
    rest = []
    for word in words:
        key, equals, value = word.partition("=")
        if word in FLAGS:
            continue
        if word.startswith("-"):
            raise ValueError(f"unknown flag {word!r}; there are {', '.join(FLAGS)} and --help")
        if equals and key in OWN:
            own[key] = value
        else:
            rest.append(word)
    return own, rest


def _positive(name: str, value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(f"{name}={value}: a whole number of rows, at least 1, is needed")
    return int(value)


def _write(document: dict[str, Any], out: Path) -> None:
    """check.json and lengths.png."""
    from muomni.checkpoints.atomic_write import atomic_write
    from muomni.report.histograms import draw_histograms  # matplotlib takes a second

    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / "check.json") as temporary:
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    drawn = [(f"{each['title']}, {each['split']}", each["unit"], each["bins"]) for each in document["histograms"]]
    draw_histograms(drawn, out / "lengths.png")


def run() -> NoReturn:
    """Entry point."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # the workers are ended first
    run_program(main, mistake=WRONG_USAGE)


if __name__ == "__main__":
    run()
