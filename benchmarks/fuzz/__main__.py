"""python -m benchmarks.fuzz     damaged and hostile input for everything that opens untrusted files

    inputs=20000    how many, shared out over the targets
    targets=a,b     only these        seed=0
    only=image:17   reproduces one input, with its traceback; keep=DIR keeps its files
    seconds=20      limit of processor time for one input     megabytes=1024    limit of memory on top of what was in use
    out=FILE        the counts as JSON, added to those that the file holds of other targets and seeds

Exit status 1 if any outcome is neither an answer nor a refusal in one line.
"""

import json
import tempfile
from collections import Counter
from pathlib import Path

import torch

from benchmarks.fuzz import data, media, models, options
from benchmarks.fuzz.harness import BAD, GOOD, Limits, Outcomes, Target, make_input, try_all
from muomni.cli.key_value import read_options, run_program

TARGETS: dict[str, Target] = {
    target.name: target for module in (media, data, models, options) for target in module.TARGETS
}
OWN = {"inputs": 20000, "targets": (), "seed": 0, "only": "", "keep": "", "seconds": 20.0, "megabytes": 1024, "out": ""}
SHOWN = 40


def run(chosen: list[str], *, inputs: int, seed: int, limits: Limits) -> dict[str, Outcomes]:
    """Try inputs of each target; target -> outcomes."""
    whole = sum(TARGETS[name].share for name in chosen)
    models.seeds()
    options.engine()
    found = {}
    with tempfile.TemporaryDirectory(prefix="muomni-fuzz-") as folder:
        for name in chosen:
            numbers = range(max(1, round(inputs * TARGETS[name].share / whole)))
            found[name] = try_all(TARGETS[name], numbers, seed=seed, folder=Path(folder), limits=limits)
            print(f"{name:<12} {_shown(found[name].counts)}", flush=True)
    return found


def _shown(counts: Counter[str]) -> str:
    return "  ".join(f"{verdict} {counts[verdict]}" for verdict in (*GOOD, *BAD))


def again(only: str, *, seed: int, keep: str) -> None:
    """Run one input and show its traceback."""
    name, _, number = only.partition(":")
    models.seeds()
    folder = Path(keep or tempfile.mkdtemp(prefix="muomni-fuzz-"))
    made = make_input(TARGETS[name], int(number), seed=seed, folder=folder / name)
    print(f"{only}: {made!r:.2000}")
    TARGETS[name].use(made)


def keep(file: Path, found: dict[str, Outcomes], *, seed: int) -> None:
    """Add target, seed, counts and bad inputs of each target to a file, replacing those of the same target and seed."""
    new = [{"target": name, "seed": seed, **outcomes.counts, "bad": outcomes.bad} for name, outcomes in found.items()]
    known = json.loads(file.read_text()) if file.is_file() else []
    runs = {(run["target"], run["seed"]): run for run in known + new}
    file.write_text("[\n" + ",\n".join(json.dumps(run) for run in runs.values()) + "\n]\n")


def main(arguments: list[str]) -> int:
    cfg = read_options(arguments, OWN)
    torch.set_num_threads(1)
    if cfg["only"]:
        again(cfg["only"], seed=cfg["seed"], keep=cfg["keep"])
        return 0
    chosen = list(cfg["targets"] or TARGETS)
    if unknown := [name for name in chosen if name not in TARGETS]:
        raise ValueError(f"targets={unknown[0]}: available are {', '.join(TARGETS)}")
    limits = Limits(seconds=cfg["seconds"], memory=cfg["megabytes"] << 20)
    found = run(chosen, inputs=cfg["inputs"], seed=cfg["seed"], limits=limits)
    total = sum((outcomes.counts for outcomes in found.values()), Counter[str]())
    bad = [line for outcomes in found.values() for line in outcomes.bad]
    print(f"{'all':<12} {_shown(total)}   of {total.total()} inputs")
    print("\n".join(bad[:SHOWN]))
    if cfg["out"]:
        keep(Path(cfg["out"]), found, seed=cfg["seed"])
    return int(bool(bad))


if __name__ == "__main__":
    run_program(main)
