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
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.results import write_results
from datamodules.sources import resolve_sources
from muomni.cli.key_value import run_program, split_options
from muomni.run.hardware import best_precision

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("thinker", "vision", "audio", "codec", "talker", "omni_sft")
OWN = {
    "root": "",
    "stages": STAGES,
    "steps": 20,
    "threads": 0,
    "compile": "default",
    "out": "reports/steps.json",
}
#: The ci world, with pictures and documents of the small one's size.
WORLD = ("data.preset=ci", "data.image_size=64")
Row = dict[str, Any]


def gemm_rate(size: int = 1024, seconds: float = 1.0) -> float:
    """Best rate of a float32 (bfloat16 where it is fast) matrix product in GFLOP/s."""
    dtype = torch.bfloat16 if best_precision("cpu") == "bf16-mixed" else torch.float32
    a, b = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def build(cfg: DictConfig) -> tuple[Any, Any]:
    """Stage and datamodule as train.py builds them."""
    data: Any = OmegaConf.to_container(cfg.data, resolve=True)
    world: Any = OmegaConf.to_container(cfg.stage.world)
    sources = resolve_sources(data, stage=cfg.stage.name, shape=cfg.stage.shape, world=world)
    datamodule = instantiate(cfg.datamodule, _convert_="all")(**sources)
    return instantiate(cfg.module, _convert_="all")(**datamodule.metadata()), datamodule


def make_step(stage: Any) -> Callable[[Any], None]:
    """Forward, backward, clipping and the optimizer's step, as the trainer does them."""
    optimizer = stage.configure_optimizers()["optimizer"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    bf16 = best_precision("cpu") == "bf16-mixed"

    def step(batch: Any) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = stage.total_loss(stage.step(batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def draw(datamodule: Any, count: int) -> tuple[list[Any], float]:
    """Batches of the training loader, epoch after epoch, and the median seconds a batch."""
    batches, seconds = [], []
    while len(batches) < count:
        loader = iter(datamodule.train_dataloader())
        while len(batches) < count:
            start = time.perf_counter()
            batch = next(loader, None)
            if batch is None:
                break
            seconds.append(time.perf_counter() - start)
            batches.append(batch)
            datamodule.count_batch()
    return batches, statistics.median(seconds)


def tokens_of(batch: Any) -> int:
    """Ids, or frames where a batch holds sound alone."""
    ids = getattr(batch, "ids", None)
    return batch.mel.shape[0] * batch.mel.shape[1] if ids is None else ids.numel()


def measure(name: str, overrides: list[str], *, steps: int, compiled: str, rate: float) -> Row:
    """Time one stage."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        choice = [] if compiled == "default" else [f"module.training.compile_model={compiled}"]
        cfg = compose("train", overrides=[f"stage={name}", *choice, *overrides])
    torch.manual_seed(0)
    stage, datamodule = build(cfg)
    stage.train()
    batches, loading = draw(datamodule, steps)
    step = make_step(stage)
    with FlopCounterMode(display=False) as counter:
        for batch in batches:
            step(batch)
    start = time.perf_counter()
    stage.setup("fit")
    for batch in batches[:3]:
        step(batch)
    warm = time.perf_counter() - start
    seconds = []
    for batch in batches:
        start = time.perf_counter()
        step(batch)
        seconds.append(time.perf_counter() - start)
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
        "tokens_per_second": statistics.mean(map(tokens_of, batches)) / middle,
        "loading_ms": 1000 * loading,
        "data_wait_percent": 100 * loading / (loading + middle),
        "first_three_steps_s": warm,
    }


def prepare(root: str, size: str) -> tuple[str, Any]:
    """The root to measure in; a temporary one is filled by two steps of every stage."""
    if root:
        return root, None
    folder = tempfile.TemporaryDirectory(prefix="muomni-bench-")
    for stage in ("talker", "omni_sft"):
        arguments = [
            f"stage={stage}",
            "budget=ci",
            f"size={size}",
            f"paths.root={folder.name}",
            "when_done=skip",
            *WORLD,
        ]
        done = subprocess.run([sys.executable, str(ROOT / "train.py"), *arguments], check=False, stderr=subprocess.PIPE)
        if done.returncode:
            sys.exit(f"error: preparing stage={stage} failed:\n{done.stderr.decode()[-2000:]}")
    return folder.name, folder


def show(rows: list[Row]) -> str:
    """The numbers as a table."""
    columns = [key for key in rows[0] if key != "first_three_steps_s"]
    cells = [
        columns,
        *([f"{v:.1f}" if isinstance(v, float) else str(v) for v in (row[c] for c in columns)] for row in rows),
    ]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def main(arguments: list[str]) -> None:
    """Measure, print, write."""
    warnings.filterwarnings("ignore", message=".*self.trainer.*")
    options, rest = split_options(arguments, OWN)
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    size = next((a.split("=", 1)[1] for a in rest if a.startswith("size=")), "nano")
    root, temporary = prepare(options["root"], size)
    overrides = [f"paths.root={root}", "budget=ci", *(WORLD if temporary else ()), *rest]
    rate = gemm_rate()
    rows = []
    for name in options["stages"]:
        print(f"{name} ...", file=sys.stderr)
        rows.append(measure(name, overrides, steps=options["steps"], compiled=options["compile"], rate=rate))
    result = {"gemm_gflops": rate, "precision": best_precision("cpu"), "stages": rows}
    print(
        f"large matrix product: {rate:.0f} GFLOP/s, {torch.get_num_threads()} threads, {best_precision('cpu')}\n{show(rows)}"
    )
    write_results(options["out"], result)


if __name__ == "__main__":
    run_program(main)
