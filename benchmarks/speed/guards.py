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
import logging
import random
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from lightning import Callback, LightningDataModule, Trainer
from torch.utils.data import DataLoader

from benchmarks.results import write_results
from benchmarks.speed.steps import ROOT, STAGES, WORLD, build, draw, prepare
from muomni.cli.key_value import run_program, split_options
from muomni.run.hardware import best_precision

OWN = {"root": "", "stages": STAGES, "rounds": 30, "threads": 1, "out": ""}
GUARDS = ("finite_guard", "gradient_guard")
#: What is measured: name -> callbacks of conf/callbacks/default.yaml.
KINDS: dict[str, tuple[str, ...]] = {"without": (), "guards": GUARDS, "guards and doctor": (*GUARDS, "doctor")}
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
        self.sets, self.kinds, self.inside = sets, list(sets), inside
        self.within: dict[str, list[float]] = {kind: [] for kind in self.kinds}
        self.seconds: dict[str, list[float]] = {kind: [] for kind in self.kinds}
        self._since: float | None = None
        self._kind = self.kinds[0]

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._next(trainer, 0)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        now = time.process_time()
        if self._since is not None:
            self.seconds[self._kind].append(now - self._since)
            self.within[self._kind].append(self.inside.seconds)
        self._next(trainer, batch_idx + 1)
        self.inside.seconds = 0.0
        self._since = time.process_time()

    def _next(self, trainer: Any, number: int) -> None:
        row, place = divmod(number, len(self.kinds))
        self._kind = self.kinds[(place + row) % len(self.kinds)]
        trainer.callbacks = [*self.sets[self._kind], self]


class Given(LightningDataModule):
    """Batches that are there already, each once for every kind: loading is not measured."""

    def __init__(self, batches: list[Any]) -> None:
        super().__init__()
        self.batches = [copy.deepcopy(batch) for batch in batches for _ in KINDS]

    def train_dataloader(self) -> Any:
        return DataLoader(self.batches, batch_size=None)


def overhead(base: list[float], other: list[float]) -> tuple[float, float, float]:
    """Percent of a step, and its interval."""
    pairs = list(zip(base, other, strict=True))

    def percent(sample: list[tuple[float, float]]) -> float:
        return 100 * statistics.median(b - a for a, b in sample) / statistics.median(a for a, _ in sample)

    draws = random.Random(0)
    again = sorted(percent(draws.choices(pairs, k=len(pairs))) for _ in range(1000))
    return percent(pairs), again[25], again[974]


def measure(name: str, overrides: list[str], *, rounds: int) -> dict[str, Any]:
    """One stage."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=[f"stage={name}", *overrides])
    torch.manual_seed(0)
    stage, datamodule = build(cfg)
    batches, _ = draw(datamodule, rounds + 1)  # the first warms up
    made = {key: instantiate(cfg.callbacks[key], _convert_="all") for key in (*GUARDS, "doctor")}
    inside = Inside(made)
    turns = Turns({kind: [made[key] for key in keys] for kind, keys in KINDS.items()}, inside)
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", precision=best_precision("cpu"), logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, callbacks=[*made.values(), turns],
        gradient_clip_val=cfg.trainer.gradient_clip_val, use_distributed_sampler=False, default_root_dir="/tmp",
    )  # fmt: skip
    trainer.fit(stage, datamodule=Given(batches))
    seconds = {kind: taken[-rounds:] for kind, taken in turns.seconds.items()}
    row: dict[str, Any] = {"stage": name, "step_ms": 1000 * statistics.median(seconds["without"])}
    for kind in list(KINDS)[1:]:
        row[kind] = dict(zip(("percent", "low", "high"), overhead(seconds["without"], seconds[kind]), strict=True))
        row[kind]["inside"] = (
            100 * statistics.median(turns.within[kind][-rounds:]) / statistics.median(seconds["without"])
        )
    return row


def main(arguments: list[str]) -> None:
    """Measure, print, write."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    options, rest = split_options(arguments, OWN)
    torch.set_num_threads(options["threads"])
    size = next((word.split("=", 1)[1] for word in rest if word.startswith("size=")), "nano")
    root, temporary = prepare(options["root"], size)
    overrides = [f"paths.root={root}", "budget=ci", *(WORLD if temporary else ()), *rest]
    rows = []
    print(
        f"{options['threads']} thread(s), {best_precision('cpu')}; percent of a step's processor time, "
        f"aim of the guards: {AIM:g} %"
    )
    for name in options["stages"]:
        row = measure(name, overrides, rounds=options["rounds"])
        rows.append(row)
        shown = "   ".join(
            f"{kind}: inside {row[kind]['inside']:.2f} %, "
            f"difference {row[kind]['percent']:+.2f} % ({row[kind]['low']:+.2f} .. {row[kind]['high']:+.2f})"
            for kind in list(KINDS)[1:]
        )
        print(f"{name:10} step {row['step_ms']:7.1f} ms   {shown}", flush=True)
    write_results(options["out"], {"size": size, "stages": rows})


if __name__ == "__main__":
    run_program(main)
