"""`python -m datamodules.instruct`: conversations about labelled recordings and pictures, for stage=omni_sft.

    python -m datamodules.instruct out=FOLDER speech=MANIFEST,.. images=MANIFEST,.. [rounds=1] [limit=0] [seed=0]

Questions about recordings: the transcript, the word (where a text is one word), the speaker (where there are several); about
pictures: a description, what is shown (where a row has a `label`, `class` or `category`). A row gives each question that it
has the answer to. It writes train.jsonl, val.jsonl, test.jsonl and
test_wording.jsonl, the questions of test in words that training does not have; media stay where they are.
rounds: wordings of each question in training. limit: the most questions of a task, a source and a test; 0: all.
"""

import sys

from datamodules.instruct.build import Source, build_instructions
from muomni.cli.key_value import read_options, run_program
from muomni.user_path import user_path

DEFAULTS = {"out": "", "speech": (), "images": (), "rounds": 1, "limit": 0, "seed": 0}


def main(arguments: list[str]) -> int:
    """Make the manifests; 0."""
    options = read_options(arguments, DEFAULTS)
    sources = [Source(user_path(path), "speech") for path in options["speech"]]
    sources += [Source(user_path(path), "image_text") for path in options["images"]]
    if not options["out"] or not sources:
        raise ValueError("give out=FOLDER, and speech=MANIFEST or images=MANIFEST (--help)")
    folder = user_path(options["out"])
    counts = build_instructions(sources, folder, seed=options["seed"], rounds=options["rounds"], limit=options["limit"])
    for name, tasks in counts.items():
        what = ", ".join(f"{count} {task}" for task, count in sorted(tasks.items()))
        print(f"{folder / name}.jsonl: {sum(tasks.values())} questions ({what})")
    empty = [name for name, tasks in counts.items() if not tasks]
    if empty:
        print(f"warning: no questions in {', '.join(empty)}: the sources have no such rows", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_program(main)
