"""python -m benchmarks.quality.optimizers     optimizers and schedules at equal processor time: one table a stage

    stages=thinker,audio   optimizers=adamw,muon,soap,lion,schedule_free      seeds=0,1,2     seconds=40 of one thread, a run
    rates=1,0.5,2          factors of the stage's optim.lr that each optimizer tries with the first seed
    decays=0.3,3           factors of the weight decay that muon tries at its best rate (the row muon+decay)
    schedules=cosine,one_sqrt      tried with the best optimizer that has schedule=wsd
    root=                  folder whose data/ is used and completed, default: OUT
    out=runs/optimizers    finished runs (results/), logs, step times, the table as JSON; what is there is not done again
    rounds=4               of ten steps each, by which an optimizer's step is timed
    KEY=VALUE              anything else goes to the configuration, as train.py takes it

The step of every optimizer is timed first, in turns on the same batches, and each trains as many steps as fit into `seconds`; a
run then is train.py in a process of its own, with one thread. The best of a tuning is the one with the least loss on the
validation split; with its options the other seeds are trained. `spread` is the standard deviation over seeds.
"""

import csv
import json
import multiprocessing
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate

from benchmarks.results import table, write_results
from benchmarks.speed.steps import make_step
from benchmarks.stages import build_stage, compose_config, draw
from muomni.cli.key_value import run_program, split_options
from muomni.run.hardware import has_fast_bfloat16

OWN = {
    "stages": ("thinker", "audio"), "optimizers": ("adamw", "muon", "soap", "lion", "schedule_free"),
    "seeds": ("0", "1", "2"), "seconds": 40.0, "rates": ("1", "0.5", "2"), "decays": ("0.3", "3"),
    "schedules": ("cosine", "one_sqrt"), "root": "", "out": "runs/optimizers", "rounds": 4,
}  # fmt: skip
#: What a short run does without: it costs time, and is the same for all.
BARE = [f"callbacks.{name}=null" for name in ("doctor", "media", "source", "estimate", "samples", "progress", "norms")]
BLOCK = 10  # steps that are timed together: SOAP moves its bases once in ten
Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One training. `rate` and `decay` are factors of the stage's."""

    stage: str
    optimizer: str
    schedule: str
    rate: float
    decay: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.stage}-{self.optimizer}-{self.schedule}-lr{self.rate:g}-wd{self.decay:g}-seed{self.seed}"


@dataclass(frozen=True)
class Stage:
    """A stage's own learning rate and weight decay, and seconds of a step (with its batch) by optimizer."""

    lr: float
    weight_decay: float
    step_seconds: dict[str, float]


Train = Callable[[Run], Row]


def read_stage(name: str, optimizers: list[str], words: list[str], *, rounds: int) -> Stage:
    """Times the optimizers in turns, step by step, on the same batches; medians over blocks of ten steps."""
    choice = [f"stage={name}", *words]
    cfg = compose_config(*choice)
    datamodule: Any = None
    steps: dict[str, Callable[..., None]] = {}
    for optimizer in optimizers:
        one = compose_config(*choice, f"optim={optimizer}", "trainer.max_steps=1000")
        if datamodule is None:
            _, datamodule = build_stage(one)
        torch.manual_seed(0)
        stage = instantiate(one.module, _convert_="all")(**datamodule.metadata())
        stage.train()
        made = stage.configure_optimizers()["optimizer"]
        loss_of = _loss_of(stage)
        steps[optimizer] = make_step(loss_of, made, bf16=has_fast_bfloat16("cpu"))
    taken: dict[str, list[float]] = {key: [] for key in ("data", *optimizers)}
    source = draw(datamodule)
    for block in range(rounds + 1):
        sums = dict.fromkeys(taken, 0.0)
        for _ in range(BLOCK):
            batch, sums["data"] = _added(sums["data"], partial(next, source))
            for optimizer, step in steps.items():
                _, sums[optimizer] = _added(sums[optimizer], partial(step, batch))
        if block:  # in the first everything is new
            for key, total in sums.items():
                taken[key].append(total / BLOCK)
    middle = {key: statistics.median(values) for key, values in taken.items()}
    decay = float(cfg.module.training.weight_decay)
    return Stage(float(cfg.optim.lr), decay, {key: middle["data"] + middle[key] for key in optimizers})


def _loss_of(stage: Any) -> Callable[[Any], torch.Tensor]:
    return lambda batch: stage.total_loss(stage.step(batch))


def _added(total: float, call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = call()
    return result, total + time.process_time() - start


def command(run: Run, stage: Stage, options: dict[str, Any], words: list[str]) -> list[str]:
    """The words of train.py, whose files go to a folder of the run's own."""
    folder = Path(options["out"]).resolve() / "runs" / run.name
    steps = steps_of(run, stage, options["seconds"])
    monitor = ["monitor=audio/val/cer"] if run.stage == "audio" else []
    return [
        f"stage={run.stage}", *words, f"optim={run.optimizer}", f"schedule={run.schedule}", f"seed={run.seed}",
        f"optim.lr={run.rate * stage.lr:g}", f"module.training.weight_decay={run.decay * stage.weight_decay:g}",
        f"trainer.max_steps={steps}", f"trainer.val_check_interval={steps}", "+trainer.limit_test_batches=0",
        f"callbacks.resume_checkpoint.every_n_train_steps={steps}", f"paths.runs={folder}",
        f"paths.checkpoints={folder}/checkpoints", "resume=never", *monitor, *BARE,
    ]  # fmt: skip


def steps_of(run: Run, stage: Stage, seconds: float) -> int:
    return max(2, round(seconds / stage.step_seconds[run.optimizer]))


def train_here(words: list[str], log: str, cpu: str) -> None:
    """train.py with these words, in this process; its lines go to `log`, its processor seconds to `cpu`."""
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["train.py", *words]
    import train

    torch.set_num_threads(1)
    start = time.process_time()
    train.main()
    Path(cpu).write_text(f"{time.process_time() - start:.2f}")


def train_run(run: Run, words: list[str], out: Path) -> Row:
    """Loss (and CER of audio) on the validation split, None where training failed, with the processor seconds it took."""
    folder = out / "runs" / run.name
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["train"])
    process = context.Process(target=train_here, args=(words, str(folder / "log.txt"), str(folder / "cpu.txt")))
    process.start()
    process.join()
    files = list(folder.glob(f"{run.stage}/*/metrics.csv"))
    if not files:  # it never began: the same of all runs
        last_line = (folder / "log.txt").read_text().strip().rpartition("\n")[2]
        raise ValueError(f"{folder / 'log.txt'}: nothing was trained: {last_line}")
    if process.exitcode:
        return {"val_loss": None, "cer": None, "cpu_s": None}
    file = max(files, key=lambda path: path.stat().st_mtime)  # of a call that was stopped there may be others
    rows = list(csv.DictReader(file.open()))

    def last(metric: str) -> float | None:
        values = [row[metric] for row in rows if row.get(metric)]
        return float(values[-1]) if values else None

    loss, cer = last(f"{run.stage}/val/loss"), last(f"{run.stage}/val/cer")
    return {"val_loss": loss, "cer": cer, "cpu_s": float((folder / "cpu.txt").read_text())}


def kept(run: Run, train: Train, out: Path) -> Row:
    """The run's result: of its file, or trained and then written there."""
    path = out / "results" / f"{run.name}.json"
    if path.is_file():
        return json.loads(path.read_text())
    print(f"{time.strftime('%H:%M:%S')} {run.name} ...", file=sys.stderr, flush=True)
    result = train(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(run) | result) + "\n")
    return result


def best_of(runs: list[Run], train: Train) -> Run:
    """The run with the least loss. Raises ValueError where all have failed."""
    losses = {run: train(run)["val_loss"] for run in runs}
    finished = [run for run in runs if losses[run] is not None]
    if not finished:
        raise ValueError(f"all of {', '.join(run.name for run in runs)} failed: see their log.txt")
    return min(finished, key=lambda run: losses[run])


def summary(label: str, run: Run, stage: Stage, options: dict[str, Any], train: Train) -> Row:
    """The row of a run's options, over all seeds."""
    results = [train(replace(run, seed=int(seed))) for seed in options["seeds"]]
    losses = [each["val_loss"] for each in results if each["val_loss"] is not None]
    cers = [each["cer"] for each in results if each["cer"] is not None]
    seconds = [each["cpu_s"] for each in results if each["cpu_s"] is not None]
    return {
        "optimizer": label, "schedule": run.schedule, "lr": run.rate * stage.lr,
        "weight_decay": run.decay * stage.weight_decay, "step_ms": 1000 * stage.step_seconds[run.optimizer],
        "steps": steps_of(run, stage, options["seconds"]), "cpu_s": statistics.mean(seconds) if seconds else None,
        "seeds": len(losses), "val_loss": statistics.mean(losses) if losses else None,
        "spread": statistics.stdev(losses) if len(losses) > 1 else None,
        "cer": statistics.mean(cers) if cers else None,
    }  # fmt: skip


def compare(name: str, stage: Stage, options: dict[str, Any], train: Train) -> list[Row]:
    """Rows of all optimizers, of muon with its weight decay tuned, and of the other schedules, best first."""
    seed, rates = int(options["seeds"][0]), [float(rate) for rate in options["rates"]]
    chosen: dict[str, Run] = {}
    for optimizer in options["optimizers"]:
        schedule = "constant" if optimizer == "schedule_free" else "wsd"
        runs = [Run(name, optimizer, schedule, rate, 1.0, seed) for rate in rates]
        chosen[optimizer] = best_of(runs, train)
    if "muon" in chosen and options["decays"]:
        tried = [replace(chosen["muon"], decay=float(decay)) for decay in options["decays"]]
        chosen["muon+decay"] = best_of([chosen["muon"], *tried], train)
    rows = [summary(label, run, stage, options, train) for label, run in chosen.items()]
    decaying = [
        row for row in rows if row["schedule"] == "wsd" and row["seeds"] == len(options["seeds"])
    ]  # a seed that failed is no win
    if decaying and options["schedules"]:
        label = min(decaying, key=lambda row: row["val_loss"])["optimizer"]
        runs = [replace(chosen[label], schedule=schedule) for schedule in options["schedules"]]
        rows += [summary(label, run, stage, options, train) for run in runs]
    return sorted(rows, key=lambda row: (row["val_loss"] is None, row["val_loss"] or 0.0))


def timed_stage(name: str, options: dict[str, Any], words: list[str], out: Path) -> Stage:
    """As `read_stage`, of the file of an earlier call where there is one: a table is of one measurement."""
    path = out / f"steps-{name}.json"
    if not path.is_file():
        stage = read_stage(name, list(options["optimizers"]), words, rounds=options["rounds"])
        told = {"seconds": options["seconds"], "overrides": words}
        path.write_text(json.dumps(asdict(stage) | told) + "\n")
    found = json.loads(path.read_text())
    if (found.pop("seconds"), found.pop("overrides")) != (options["seconds"], words):
        raise ValueError(
            f"{path}: the runs there had other seconds= or overrides: give another out=, or remove that folder"
        )
    stage = Stage(**found)
    unknown = set(options["optimizers"]) - set(stage.step_seconds)
    if unknown:
        raise ValueError(f"{path}: {', '.join(sorted(unknown))} is not timed there; remove the file to time all again")
    return stage


def main(arguments: list[str]) -> None:
    warnings.filterwarnings("ignore", message=".*self.trainer.*")
    options, rest = split_options(arguments, OWN)
    if not (options["seeds"] and options["rates"] and options["optimizers"]):
        raise ValueError("seeds=, rates= and optimizers= need one value at least")
    os.environ["OMP_NUM_THREADS"] = "1"  # of the trainings
    torch.set_num_threads(1)
    out = Path(options["out"]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    data = (Path(options["root"]).resolve() if options["root"] else out) / "data"
    words = ["trainer=cpu", f"paths.root={out}", f"paths.data={data}", *rest]
    result: dict[str, Any] = {"options": options, "overrides": rest}
    for name in options["stages"]:
        stage = timed_stage(name, options, words, out)

        def train(run: Run, stage: Stage = stage) -> Row:
            return kept(run, lambda run: train_run(run, command(run, stage, options, words), out), out)

        result[name] = rows = compare(name, stage, options, train)
        print(f"\n{name}, {options['seconds']:g} s of one thread a run:\n{table(rows)}", flush=True)
    write_results(out / "optimizers.json", result)


if __name__ == "__main__":
    run_program(main)
