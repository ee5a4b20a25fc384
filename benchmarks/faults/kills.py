"""python -m benchmarks.faults.kills     training runs killed at random moments, and started again by the same command.

    kills=200 stages=a,b       how many, over which stages        seed=0    of the moments
    workers=0,2 ranks=1        loader workers and processes (gloo) of the runs, drawn for each kill: ranks=1,2
    root=DIR                   of data and prerequisites; default: a temporary one, filled by two steps of each stage
    out=FILE                   the numbers as JSON

Every stage trains on the ci world, six steps with a checkpoint every two and validation every three. One run is not killed.
Half of the kills (SIGKILL) come at a random time, the others are spread over the phases of a run: while it starts, within a
step, while it saves, in validation, between training and the end of the export, while it tests. Then the same command is
started again, and its weights, metrics and rows must be, bit for bit, those of the uninterrupted run, and the samples
that both halves trained on the same, in the same order.
"""

import csv
import hashlib
import importlib
import json
import pkgutil
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

import callbacks
import datamodules
import muomni.stages
from benchmarks.faults import fork_server
from benchmarks.results import table, write_results
from benchmarks.stages import STAGES
from muomni.cli.help import CONF
from muomni.cli.key_value import read_options, run_program
from muomni.run import stage_graph

OWN = {"kills": 200, "stages": STAGES, "seed": 0, "workers": ("0", "2"), "ranks": ("1",), "root": "", "out": ""}
CI = ("budget=ci", "data.preset=ci")
STEPS = 6
#: Metrics that depend on the clock.
CLOCK = ("_per_second", "data_wait_share", "real_time_factor", "mfu", "total_seconds", "peak_memory_mib", "recompiles")


@dataclass(frozen=True)
class Outcome:
    """What became of a kill: where it fell, and what the same command made of it.

    from_step: batches that the second run did not train on again. redone: batches that both runs trained on. differs: which of
    weights, metrics and rows are not those of the run that was left alone. lost: samples that were left out, came twice or
    in another order.
    """

    stage: str
    workers: int
    ranks: int
    moment: str
    delay: float
    resumed: bool
    from_step: int
    redone: int
    differs: list[str]
    lost: int
    seconds: float

    @property
    def identical(self) -> bool:
        return self.resumed and not self.differs


class Result(NamedTuple):
    """What a run leaves; batches: "rank, number of the batch, sample ids"."""

    weights: bytes
    metrics: dict[str, float]
    rows: list[dict[str, str]]
    batches: set[str]


@dataclass(frozen=True)
class Whole:
    """A run that was left alone."""

    run: fork_server.Run
    result: Result


def command(stage: str, root: Path, folder: Path, *, workers: int, ranks: int) -> list[str]:
    """The command line of a run that writes to `folder`."""
    several = ["trainer=ddp", "trainer.accelerator=cpu"] if ranks > 1 else []
    return [
        f"stage={stage}", *CI, f"budget.{stage}.max_steps={STEPS}", f"paths.root={root}",
        f"paths.runs={folder}/runs", f"paths.exports.{stage}={folder}/export", *several,
        "callbacks.resume_checkpoint.every_n_train_steps=2", "callbacks.progress=null", "trainer.val_check_interval=3",
        "trainer.log_every_n_steps=1", "trainer.limit_val_batches=1", "+trainer.limit_test_batches=1",
        "datamodule.batch_size=4", "datamodule.eval_batch_size=8", f"datamodule.num_workers={workers}",
        "backbone.talker.max_frames=25",  # it has not learned to stop
    ]  # fmt: skip


def left(folder: Path, ranks: int) -> Result:
    """What the one run in `folder` left; a batch that was trained on twice is there once if it held the same samples both
    times."""
    (run,) = (path.parent for path in folder.glob("runs/**/metrics.json"))
    with (run / "metrics.csv").open(newline="") as file:
        rows = [_clockless({k: v for k, v in row.items() if v}) for row in csv.DictReader(file)]
    samples = [(rank, (folder / f"samples.{rank}").read_text().splitlines()) for rank in range(ranks)]
    batches = {f"{rank} {line}" for rank, lines in samples for line in lines}
    weights = (folder / "export" / "model.safetensors").read_bytes()
    return Result(weights, _clockless(json.loads((run / "metrics.json").read_text())), rows, batches)


def _clockless(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if not (name.endswith(CLOCK) or "/ms_" in name)}


def train_whole(stage: str, root: Path, folder: Path, *, workers: int, ranks: int) -> Whole:
    done = fork_server.run(command(stage, root, folder, workers=workers, ranks=ranks), folder=folder, ranks=ranks)
    if done.code:
        sys.exit(f"error: stage={stage} fails without any kill:\n{done.log[-3000:]}")
    return Whole(done, left(folder, ranks))


def draw(whole: Whole, rng: random.Random) -> fork_server.Kill:
    begins = [("start", 0.0), *whole.run.moments]
    ends = [begin for _, begin in begins[1:]] + [whole.run.seconds]
    segments = [(moment, begin, end - begin) for (moment, begin), end in zip(begins, ends, strict=True)]
    if rng.random() < 0.5:
        when = rng.uniform(0.0, whole.run.seconds)
        moment, begin, _ = [segment for segment in segments if segment[1] <= when][-1]
        return fork_server.Kill(moment, when - begin)
    phase = rng.choice(sorted({moment.split()[0] for moment, _, _ in segments}))
    moment, _, duration = rng.choice([segment for segment in segments if segment[0].split()[0] == phase])
    return fork_server.Kill(moment, rng.uniform(0.0, duration))


def kill_once(whole: Whole, stage: str, root: Path, rng: random.Random, *, workers: int, ranks: int) -> Outcome:
    """Kill a run, start it again, compare."""
    while True:
        with tempfile.TemporaryDirectory(prefix="muomni-kill-") as name:
            folder, kill, start = Path(name), draw(whole, rng), time.perf_counter()
            arguments = command(stage, root, folder, workers=workers, ranks=ranks)
            first = fork_server.run(arguments, folder=folder, kill=kill, ranks=ranks)
            if first.code != -9:
                continue  # it was over before the kill: another moment
            samples = folder / "samples.0"
            trained = len(samples.read_text().splitlines()) if samples.exists() else 0
            again = fork_server.run(arguments, folder=folder, ranks=ranks)
            from_step = min([int(m.split()[1]) for m, _ in again.moments if m.startswith("step ")], default=STEPS)
            differs, lost = ["all"], 0
            if again.code == 0:
                differs, lost = compare(folder, whole, ranks=ranks)
            else:
                print(again.log[-3000:], file=sys.stderr)
            return Outcome(
                stage=stage, workers=workers, ranks=ranks, moment=kill.moment, delay=round(kill.delay, 4),
                resumed=again.code == 0, from_step=from_step, redone=max(0, trained - from_step), differs=differs,
                lost=lost, seconds=round(time.perf_counter() - start, 2),
            )  # fmt: skip


def compare(folder: Path, whole: Whole, *, ranks: int) -> tuple[list[str], int]:
    """What of the run in `folder` is not that of the whole one: which of weights, metrics and rows; how many samples."""
    got, wanted = left(folder, ranks), whole.result
    lost = sum(len(line.split()) - 2 for line in got.batches ^ wanted.batches)
    return [name for name in ("weights", "metrics", "rows") if getattr(got, name) != getattr(wanted, name)], lost


def prepare(root: Path, stages: Sequence[str]) -> None:
    """Data, and two steps of what the stages need."""
    needs = stage_graph.read_needs(CONF)
    for stage in STAGES:
        if any(stage in needs[name] for name in stages) and not (root / "checkpoints" / stage).exists():
            print(f"preparing {stage} ...", file=sys.stderr)
            words = (f"stage={stage}", *CI, f"paths.root={root}", "+trainer.limit_test_batches=1")
            done = fork_server.run(words, folder=root / "prepared" / stage)
            if done.code:
                sys.exit(f"error: preparing stage={stage} failed:\n{done.log[-3000:]}")


def measure(options: dict[str, Any], root: Path) -> tuple[list[Outcome], dict[str, str]]:
    """All kills, stage after stage in turn; and the sha256 of the weights of the runs that were left alone."""
    stages, rng = options["stages"], random.Random(options["seed"])
    prepare(root, stages)
    whole: dict[tuple[str, int], Whole] = {}
    outcomes = []
    for number in range(options["kills"]):
        stage = stages[number % len(stages)]
        workers = int(rng.choice(options["workers"]))
        ranks = int(rng.choice(options["ranks"]))
        if (stage, ranks) not in whole:
            with tempfile.TemporaryDirectory(prefix="muomni-whole-") as folder:
                whole[stage, ranks] = train_whole(stage, root, Path(folder), workers=0, ranks=ranks)
        outcome = kill_once(whole[stage, ranks], stage, root, rng, workers=workers, ranks=ranks)
        outcomes.append(outcome)
        print(
            f"{number + 1:4d} {outcome.stage} workers={workers} ranks={ranks}: {outcome.moment} + {outcome.delay:.3f} s, "
            f"from {outcome.from_step}, resumed {outcome.resumed}, differs {outcome.differs}, lost {outcome.lost}, "
            f"{outcome.seconds:.1f} s",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    digests = {key: hashlib.sha256(each.result.weights).hexdigest() for key, each in whole.items()}
    return outcomes, {f"{stage} x {ranks}": digest for (stage, ranks), digest in digests.items()}


def count(outcomes: list[Outcome]) -> dict[str, Any]:
    return {
        "kills": len(outcomes),
        "resumed": sum(o.resumed for o in outcomes),
        "identical": sum(o.identical for o in outcomes),
        "lost_samples": sum(o.lost for o in outcomes),
    }


def show(outcomes: list[Outcome]) -> str:
    groups = {stage: [o for o in outcomes if o.stage == stage] for stage in dict.fromkeys(o.stage for o in outcomes)}
    rows = [{"stage": name, **count(group)} for name, group in {**groups, "all": outcomes}.items()]
    where = Counter(o.moment.split()[0] for o in outcomes)
    return f"{table(rows)}\nkilled in: " + ", ".join(f"{phase} {number}" for phase, number in where.most_common())


def warm() -> None:
    """Import what a run imports; nothing is run. One thread: runs this small only wait for a second."""
    torch.set_num_threads(1)
    for package in (callbacks, datamodules, muomni.stages):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def main(arguments: list[str]) -> int:
    options = read_options(arguments, OWN)
    warm()
    with tempfile.TemporaryDirectory(prefix="muomni-faults-") as temporary:
        outcomes, weights = measure(options, Path(options["root"] or temporary).resolve())
    print(show(outcomes))
    chosen = {name: value for name, value in options.items() if name not in ("root", "out")}
    document = {"options": chosen, **count(outcomes), "weights": weights}
    write_results(options["out"], document | {"outcomes": [asdict(outcome) for outcome in outcomes]})
    return int(not all(outcome.identical and not outcome.lost for outcome in outcomes))


if __name__ == "__main__":
    run_program(main)
