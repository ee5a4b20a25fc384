"""How long a command takes on this machine with all the stages that it trains: said before the first step, and again later.

Before a stage has begun its time is that of the reference machine, by how fast this one multiplies matrices; once it has trained
its first steps, what they took (callbacks/estimate.py, callbacks/progress.py). The stages are processes: the first one makes a
folder of notes, each stage writes its own, and any of them can add up what is left, two stages at a time where two are trained
side by side.
"""

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import DictConfig

from muomni.checkpoints.atomic_write import write_text
from muomni.cores import available_cores
from muomni.run.hardware import has_fast_bfloat16
from muomni.run.time_spans import duration

log = logging.getLogger(__name__)

#: The folder of notes, for the processes that the first one starts.
FOLDER = "MUOMNI_FORECAST"
#: Seconds of a step and of the tests, size=nano on the world, one thread: docs/results.md, AMD EPYC with AVX512-bf16.
REFERENCE = {
    "thinker": (0.123, 2.2), "vision": (0.081, 1.9), "audio": (0.25, 1.3), "codec": (0.067, 4.8), "talker": (0.129, 7.5),
    "omni_sft": (0.09, 20.5),
}  # fmt: skip
#: GFLOP/s of a core there in bfloat16. A step takes longer as products do: with AVX2 alone, 92 GFLOP/s, 2.7 times as long for
#: the Thinker, where 2.4 are expected.
REFERENCE_GFLOPS = 222.0
START = 10.0  # seconds until a stage's first step
SLOW = 60.0  # GFLOP/s a core: below, the smaller budget is named
QUICK = "quick"
#: Of the process that made it: the folder of notes.
_own: list[Path] = []


@dataclass(frozen=True)
class Plan:
    """needs: of each stage that is trained, among those. seconds: expected, by stage. jobs: stages at a time."""

    needs: dict[str, list[str]]
    seconds: dict[str, float]
    jobs: int


def core_gflops(*, half: bool) -> float:
    """GFLOP/s of one core in matrix products of bfloat16 (half) or float32: the best of many short ones. Nothing random."""
    side, rounds, threads = 512, 40, torch.get_num_threads()
    factor = torch.ones(side, side, dtype=torch.bfloat16 if half else torch.float32)
    seconds = []
    torch.set_num_threads(1)
    try:
        for _ in range(rounds):
            start = time.perf_counter()
            factor @ factor
            seconds.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return 2e-9 * side**3 / min(seconds)


def expected_seconds(stage: str, steps: int, gflops: float) -> float:
    """Of a stage that has not begun, with its start and its tests."""
    step, test = REFERENCE[stage]
    return START + (steps * step + test) * REFERENCE_GFLOPS / gflops


def wall_clock(
    left: Mapping[str, float], needs: Mapping[str, Sequence[str]], jobs: int, begun: Collection[str] = ()
) -> float:
    """Seconds until all stages of `left` (what each still takes) are done, at most `jobs` at a time; those that have begun go on,
    then each in the order of `left` as soon as what it needs is done. A need that is not in `left` is done."""
    now, running, waiting = 0.0, {stage: left[stage] for stage in begun}, [each for each in left if each not in begun]
    while running or waiting:
        for stage in list(waiting):
            if len(running) < jobs and not any(need in running or need in waiting for need in needs[stage]):
                running[stage] = now + left[stage]
                waiting.remove(stage)
        assert running, f"stages that wait for each other: {waiting}"
        first = min(running, key=lambda stage: running[stage])
        now = running.pop(first)
    return now


def announce(
    cfg: DictConfig, lacking: Sequence[str], graph: Mapping[str, Sequence[str]], *, jobs: int, conf: Path
) -> None:
    """Log what a training of the world takes with the stages that it needs first, and begin the notes. Nothing where a GPU
    trains, and for sizes and data of which no step was timed. conf: the folder of configurations."""
    stages = [*lacking, cfg.stage.name]
    on_gpu = torch.cuda.is_available() and cfg.trainer.accelerator != "cpu"
    own_codec = "_target_" in cfg.get("codec", {})  # of waveforms: no step of it was timed
    timed = cfg.size == "nano" and cfg.data.kind == "world" and set(stages) <= REFERENCE.keys() and not own_codec
    if not lacking or not timed or on_gpu or FOLDER in os.environ:
        return
    half = has_fast_bfloat16("cpu") if cfg.trainer.precision == "auto" else "16" in str(cfg.trainer.precision)
    gflops = core_gflops(half=half)
    plan = _plan(stages, graph, cfg.budget, gflops, jobs)
    _own.append(Path(tempfile.mkdtemp(prefix="muomni-forecast-")))
    os.environ[FOLDER] = str(_own[-1])
    write_text(Path(os.environ[FOLDER]) / "plan.json", json.dumps(asdict(plan)))
    each = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in plan.seconds.items())
    log.info(
        "about %s on this machine (%d cores, %.0f GFLOP/s a core in %s) for %s, %d at a time; making data comes on top, and the "
        "first steps of each stage tell more", duration(wall_clock(plan.seconds, plan.needs, jobs)), available_cores(),
        gflops, "bfloat16" if half else "float32", each, jobs,
    )  # fmt: skip
    if gflops < SLOW and cfg.budget.name == "demo":
        other = yaml.safe_load((conf / "budget" / f"{QUICK}.yaml").read_text())
        quick = _plan(stages, graph, other, gflops, jobs)
        log.info(
            "a slow machine (under %.0f GFLOP/s a core): budget=%s (make demo BUDGET=%s) would take about %s and reach %s",
            SLOW, QUICK, QUICK, duration(wall_clock(quick.seconds, quick.needs, jobs)), other["reaches"],
        )  # fmt: skip


def _plan(stages: Sequence[str], graph: Mapping[str, Sequence[str]], budget: Any, gflops: float, jobs: int) -> Plan:
    seconds = {stage: expected_seconds(stage, budget[stage]["max_steps"], gflops) for stage in stages}
    return Plan({stage: [need for need in graph[stage] if need in stages] for stage in stages}, seconds, jobs)


def note(stage: str, left: float) -> None:
    """Write down what a stage still takes, in seconds; 0: it is done. Nothing without a forecast."""
    if FOLDER in os.environ:
        write_text(Path(os.environ[FOLDER]) / f"{stage}.json", json.dumps({"left": left, "at": time.time()}))


def remaining() -> float | None:
    """Seconds until all stages of the command are done, by what they have noted; None without a forecast."""
    if FOLDER not in os.environ:
        return None
    folder = Path(os.environ[FOLDER])
    plan = Plan(**json.loads((folder / "plan.json").read_text()))
    left, begun = dict(plan.seconds), []
    for stage in plan.seconds:
        if (folder / f"{stage}.json").exists():
            noted = json.loads((folder / f"{stage}.json").read_text())
            if noted["left"] == 0:
                del left[stage]
                continue
            begun.append(stage)
            left[stage] = max(0.0, noted["left"] - (time.time() - noted["at"]))
    return wall_clock(left, plan.needs, plan.jobs, begun)


def clean_up() -> None:
    """At the end of the process that made them: remove the notes."""
    for folder in _own:
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop(FOLDER, None)
    _own.clear()
