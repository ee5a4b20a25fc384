"""python -m benchmarks.speed.steps     the training step of every stage, timed with its real configuration, model and data.

    root=DIR        folder of exports and data; default: a temporary folder in which two steps of each stage are trained
    stages=a,b      only these        steps=20  size=nano  threads=N  compile=default|true|false
    out=FILE        the numbers as JSON, default reports/steps.json
    KEY=VALUE       anything else goes to the configuration, as train.py takes it

Each step is compared with the least time that its matrix products could take: their operations (counted on the same batches) by
the rate of a large matrix product measured in the same run; `mfu_percent` is the share of it that the step reaches. Data is timed
apart: what a loader takes a batch, and which share of a step and its loading that is (without workers, so nothing overlaps).
"""

import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.results import table, write_results
from benchmarks.stages import ONE_OPTIMIZER, build_stage, compose_config, draw, prepared
from muomni.cli.key_value import run_program, split_options
from muomni.run.hardware import best_precision, has_fast_bfloat16

OWN = {
    "root": "",
    "stages": ONE_OPTIMIZER,
    "steps": 20,
    "threads": 0,
    "compile": "default",
    "out": "reports/steps.json",
}
Row = dict[str, Any]


def best_seconds(
    statement: str, *, limit: float = 1.0, clock: Callable[[], float] = time.perf_counter, **names: Any
) -> float:
    """The least time that a statement took in `limit` seconds of trials, by a clock."""
    timer = Timer(statement, globals=names, num_threads=torch.get_num_threads(), timer=clock)
    return min(timer.blocked_autorange(min_run_time=limit).times)


def gemm_rate(
    size: int = 1024, seconds: float = 1.0, *, autocast: bool = True, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Best rate of a float32 matrix product in GFLOP/s; autocast: in bfloat16 where that is fast."""
    dtype = torch.bfloat16 if autocast and has_fast_bfloat16("cpu") else torch.float32
    a, b = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    return 2 * size**3 / best_seconds("a @ b", limit=seconds, clock=clock, a=a, b=b) / 1e9


def make_step(loss_of: Callable[..., Tensor], optimizer: torch.optim.Optimizer, *, bf16: bool) -> Callable[..., None]:
    """A step on a batch: forward, backward, clipping and the optimizer's step, as the trainer does them."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def step(*batch: Any) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = loss_of(*batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def timed(step: Callable[[Any], Any], arguments: Iterable[Any]) -> tuple[list[Any], list[float]]:
    """Call `step` with each -> results, and seconds of each call."""
    results, seconds = [], []
    for argument in arguments:
        start = time.perf_counter()
        results.append(step(argument))
        seconds.append(time.perf_counter() - start)
    return results, seconds


def measure(name: str, overrides: list[str], *, steps: int, compiled: str, rate: float) -> Row:
    choice = [] if compiled == "default" else [f"module.training.compile_model={compiled}"]
    cfg = compose_config(f"stage={name}", *choice, *overrides)
    stage, datamodule = build_stage(cfg)
    stage.train()
    source = draw(datamodule)
    batches, waits = timed(lambda _: next(source), range(steps))
    loading = statistics.median(waits)
    optimizer = stage.configure_optimizers()["optimizer"]
    step = make_step(lambda batch: stage.total_loss(stage.step(batch)), optimizer, bf16=has_fast_bfloat16("cpu"))
    with FlopCounterMode(display=False) as counter:
        timed(step, batches)
    start = time.perf_counter()
    stage.setup("fit")
    timed(step, batches[:3])
    warm = time.perf_counter() - start
    _, seconds = timed(step, batches)
    middle = statistics.median(seconds)
    floor = counter.get_total_flops() / len(batches) / rate / 1e9
    return {
        "stage": name,
        "compiled": bool(cfg.module.training.compile_model),
        "parameters_trained": sum(p.numel() for p in stage.parameters() if p.requires_grad),
        "batch": len(batches[0].sample_ids),
        "step_ms": 1000 * middle,
        "floor_ms": 1000 * floor,
        "times_the_floor": statistics.mean(seconds) / floor,
        "mfu_percent": 100 * floor / statistics.mean(seconds),
        "samples_per_second": len(batches[0].sample_ids) / middle,
        "tokens_per_second": statistics.mean(batch.tokens()[1] for batch in batches) / middle,
        "loading_ms": 1000 * loading,
        "data_wait_percent": 100 * loading / (loading + middle),
        "first_three_steps_s": warm,
    }


def main(arguments: list[str]) -> None:
    warnings.filterwarnings("ignore", message=".*self.trainer.*")
    options, rest = split_options(arguments, OWN)
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    rate, precision, rows = gemm_rate(), best_precision("cpu"), []
    with prepared(options["root"], rest) as overrides:
        for name in options["stages"]:
            print(f"{name} ...", file=sys.stderr)
            rows.append(measure(name, overrides, steps=options["steps"], compiled=options["compile"], rate=rate))
    print(f"large matrix product: {rate:.0f} GFLOP/s, {torch.get_num_threads()} threads, {precision}\n{table(rows)}")
    write_results(options["out"], {"gemm_gflops": rate, "precision": precision, "stages": rows})


if __name__ == "__main__":
    run_program(main)
