"""python -m benchmarks.speed.guards     what guards and doctor cost a training step, in real trainings of every stage.

    root=DIR        folder of exports and data; default: a temporary folder in which two steps of each stage are trained
    stages=a,b      only these        rounds=30  size=nano  threads=1
    out=FILE        the numbers as JSON
    KEY=VALUE       anything else goes to the configuration, as train.py takes it

Every batch is trained on three times: without, with the guards, and with guards and doctor, in an order that turns, so that
whatever else the machine does meets all three alike. Callbacks are put into and taken out of one and the same trainer. The
overhead is the median over batches of the difference in processor time, as a share of the step without, with its 95 % interval
(1000 resamplings of the batches). `inside` is the processor time within the callbacks' own hooks, far less noisy; the norm of the
gradients is left out of it, since clipping then need not measure it.
"""

import copy
import itertools
import logging
import random
import statistics
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import Callback
from torch.utils.data import DataLoader

from benchmarks.results import table, write_results
from benchmarks.stages import ONE_OPTIMIZER, build_stage, build_trainer, compose_config, draw, prepared
from muomni.cli.key_value import run_program, split_options
from muomni.run.hardware import best_precision

OWN = {"root": "", "stages": ONE_OPTIMIZER, "rounds": 30, "threads": 1, "out": ""}
GUARDS = ("finite_guard", "gradient_guard")
#: What is measured: name -> callbacks of conf/callbacks/default.yaml.
SETS: dict[str, tuple[str, ...]] = {"without": (), "guards": GUARDS, "guards and doctor": (*GUARDS, "doctor")}
AIM = 1.0  # percent, of the guards
HOOKS = ("on_train_batch_start", "on_before_backward", "on_before_optimizer_step", "on_train_batch_end")


class Inside:
    """Processor time within the hooks of callbacks, less that of the norm."""

    def __init__(self, callbacks: dict[str, Any]) -> None:
        self.seconds = 0.0
        for callback in callbacks.values():
            for name in HOOKS:
                setattr(callback, name, self._timed(getattr(callback, name), 1))
        norm = callbacks["gradient_guard"]
        norm.statistic = self._timed(norm.statistic, -1)

    def _timed(self, hook: Callable[..., Any], sign: int) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return hook(*arguments, **options)
            finally:
                self.seconds += sign * (time.process_time() - start)

        return timed


class Turns(Callback):
    """Chooses the callbacks of the next step and times the last one, from end of batch to end of batch."""

    def __init__(self, sets: dict[str, list[Callback]], inside: Inside) -> None:
        self.sets, self.inside = sets, inside
        self.within: dict[str, list[float]] = defaultdict(list)
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._since, self._current = 0.0, ""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._next(trainer, 0)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        now = time.process_time()
        if batch_idx:  # the first step warms up
            self.seconds[self._current].append(now - self._since)
            self.within[self._current].append(self.inside.seconds)
        self._next(trainer, batch_idx + 1)
        self.inside.seconds = 0.0
        self._since = time.process_time()

    def _next(self, trainer: Any, number: int) -> None:
        row, column = divmod(number, len(self.sets))
        self._current = list(self.sets)[(column + row) % len(self.sets)]
        trainer.callbacks = [*self.sets[self._current], self]


def overhead(base: list[float], other: list[float]) -> tuple[float, float, float]:
    """Percent of a step, and its interval."""
    pairs = list(zip(base, other, strict=True))

    def percent(sample: list[tuple[float, float]]) -> float:
        return 100 * statistics.median(b - a for a, b in sample) / statistics.median(a for a, _ in sample)

    draws = random.Random(0)
    again = sorted(percent(draws.choices(pairs, k=len(pairs))) for _ in range(1000))
    return percent(pairs), again[25], again[974]


def measure(name: str, overrides: list[str], *, rounds: int) -> dict[str, Any]:
    cfg = compose_config(f"stage={name}", *overrides)
    stage, datamodule = build_stage(cfg)
    made = {key: instantiate(cfg.callbacks[key], _convert_="all") for key in (*GUARDS, "doctor")}
    turns = Turns({key: [made[name] for name in names] for key, names in SETS.items()}, Inside(made))
    trainer = build_trainer(cfg, [*made.values(), turns], max_epochs=1, precision=best_precision("cpu"))
    # Loading is not measured: each batch is there already, once for every set; the first warms up.
    batches = [batch for batch in itertools.islice(draw(datamodule), rounds + 1) for _ in SETS]
    trainer.fit(stage, DataLoader([copy.deepcopy(batch) for batch in batches], batch_size=None))  # type: ignore[arg-type]
    seconds = {key: taken[-rounds:] for key, taken in turns.seconds.items()}
    step = statistics.median(seconds["without"])
    row: dict[str, Any] = {"stage": name, "step_ms": 1000 * step}
    for key in list(SETS)[1:]:
        percent, low, high = overhead(seconds["without"], seconds[key])
        inside = 100 * statistics.median(turns.within[key][-rounds:]) / step
        row[key] = {"percent": percent, "low": low, "high": high, "inside": inside}
    return row


def main(arguments: list[str]) -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    options, rest = split_options(arguments, OWN)
    torch.set_num_threads(options["threads"])
    threads, precision = options["threads"], best_precision("cpu")
    print(f"{threads} thread(s), {precision}; percent of a step's processor time, aim of the guards: {AIM:g} %")
    rows, shown = [], []
    with prepared(options["root"], rest) as overrides:
        for name in options["stages"]:
            print(f"{name} ...", file=sys.stderr)
            rows.append(row := measure(name, overrides, rounds=options["rounds"]))
            cells = {"stage": name, "step, ms": row["step_ms"]}
            for key in list(SETS)[1:]:
                cost = row[key]
                cells |= {f"{key}: inside, %": cost["inside"], f"{key}: difference, %": cost["percent"]}
                cells |= {f"{key}: 95 %": f"{cost['low']:+.2f} .. {cost['high']:+.2f}"}
            shown.append(cells)
    print(table(shown))
    write_results(options["out"], {"stages": rows})


if __name__ == "__main__":
    run_program(main)
