"""python -m benchmarks.speed.logging     what logging costs a training step, in real trainings.

    root=DIR        folder of exports and data; default: a temporary folder in which two steps of each stage are trained
    stages=a,b      only these        rounds=10  every=20  size=nano  threads=1
    out=FILE        the numbers as JSON
    KEY=VALUE       anything else goes to the configuration, as train.py takes it

Trainings alternate between blocks of `every` steps, a logging interval each, with and without: times by phase, norms by module,
memory, throughput and MFU, learning rates, and metrics written to metrics.csv and TensorBoard. The guards are in both. Each pair
of blocks trains on the same batches, in an order that turns. The overhead is the median over pairs of the difference in
processor time, as a share of the block without, with its 95 % interval (1000 resamplings): what else the machine does counts for
neither. `inside` is what is spent within the callbacks' own hooks and the loggers, far less noisy.
"""

import copy
import itertools
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.profilers import PassThroughProfiler
from torch.utils.data import DataLoader

from benchmarks.results import table, write_results
from benchmarks.speed.guards import GUARDS, overhead
from benchmarks.stages import build_stage, build_trainer, compose_config, draw, prepared
from callbacks.metrics_file import MetricsFile
from muomni.cli.key_value import run_program, split_options
from muomni.run.hardware import best_precision

OWN = {"root": "", "stages": ("thinker", "omni_sft"), "rounds": 10, "every": 20, "threads": 1, "out": ""}
MEASURED = ("step_times", "norms", "resources", "gradient_norm", "throughput", "learning_rate")
AIM = 2.0  # percent
HOOKS = ("on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end")


class Blocks(Callback):
    """Chooses callbacks, loggers and profiler of the next block, and times the last one."""

    def __init__(self, sets: dict[str, list[Callback]], loggers: list[Any], *, every: int) -> None:
        self.sets, self.loggers, self.every = sets, loggers, every
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.within: dict[str, list[float]] = defaultdict(list)
        self.inside = 0.0
        self._since, self._current, self._profiler = 0.0, "", None

    def timed(self, owner: Any, name: str) -> None:
        """Add what a method takes to `inside`."""
        method: Callable[..., Any] = getattr(owner, name)

        def run(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return method(*arguments, **options)
            finally:
                self.inside += time.process_time() - start

        setattr(owner, name, run)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._profiler = trainer.profiler
        trainer.callbacks = [*self._set(0), self]

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """The block before ends here, where its metrics have been written."""
        if batch_idx % self.every:
            return
        now = time.process_time()
        if self._current:
            self.seconds[self._current].append(now - self._since)
            self.within[self._current].append(self.inside)
        self._current = self._name(batch_idx // self.every)
        logged = self._current == "logging"
        trainer.loggers = self.loggers if logged else []
        trainer.profiler = self._profiler if logged else PassThroughProfiler()
        self.inside, self._since = 0.0, time.process_time()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % self.every == 0:
            trainer.callbacks = [*self._set((batch_idx + 1) // self.every), self]

    def _name(self, block: int) -> str:
        pair, second = divmod(block, 2)
        return list(self.sets)[(pair + second) % 2]

    def _set(self, block: int) -> list[Callback]:
        return self.sets[self._name(block)]


def measure(name: str, overrides: list[str], *, rounds: int, every: int) -> dict[str, Any]:
    cfg = compose_config(f"stage={name}", *overrides)
    stage, datamodule = build_stage(cfg)
    made = {key: instantiate(cfg.callbacks[key], _convert_="all") for key in (*GUARDS, *MEASURED)}
    guards = [made[key] for key in GUARDS]
    first = [made["step_times"]]  # as in conf/callbacks
    others = [made[key] for key in MEASURED if key != "step_times"]
    with tempfile.TemporaryDirectory() as folder:
        loggers = [MetricsFile(folder), TensorBoardLogger(folder, name="tensorboard", version="")]
        blocks = Blocks({"without": guards, "logging": [*first, *guards, *others]}, loggers, every=every)
        for callback, hook in itertools.product((*first, *others), HOOKS):
            blocks.timed(callback, hook)
        for logger in loggers:
            blocks.timed(logger, "log_metrics")
        options: dict[str, Any] = {"max_epochs": 1, "precision": best_precision("cpu"), "log_every_n_steps": every}
        trainer = build_trainer(cfg, [*made.values(), blocks], **options)
        trainer.loggers = loggers
        # Loading is not measured: each batch is there already. A pair of blocks warms up, and one more batch ends the last.
        source = draw(datamodule)
        pairs = [[next(source) for _ in range(every)] for _ in range(rounds + 1)]
        batches = [copy.deepcopy(batch) for pair in pairs for batch in (*pair, *pair)] + [pairs[0][0]]
        trainer.fit(stage, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    without, logged = (blocks.seconds[key][1:] for key in ("without", "logging"))
    percent, low, high = overhead(without, logged)
    step = statistics.median(without)
    inside = 100 * statistics.median(blocks.within["logging"][1:]) / step
    return {
        "stage": name,
        "step_ms": 1000 * step / every,
        "percent": percent,
        "low": low,
        "high": high,
        "inside": inside,
    }


def main(arguments: list[str]) -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    options, rest = split_options(arguments, OWN)
    torch.set_num_threads(options["threads"])
    print(f"{options['threads']} thread(s), {best_precision('cpu')}; percent of a step's processor time, aim {AIM:g} %")
    rows = []
    with prepared(options["root"], rest) as overrides:
        for name in options["stages"]:
            print(f"{name} ...", file=sys.stderr)
            rows.append(measure(name, overrides, rounds=options["rounds"], every=options["every"]))
    print(table(rows))
    write_results(options["out"], {"stages": rows})


if __name__ == "__main__":
    run_program(main)
