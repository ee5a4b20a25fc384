"""Prerequisites of a stage: found among the exports, or trained by the same command line.

Independent stages train in parallel, each in its own process with its share of the cores: at the smallest sizes one thread for
each process is faster than all threads for one.
"""

import logging
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import torch
import yaml

from muomni.checkpoints.export import is_export, read_description
from muomni.distributed import rendezvous
from muomni.experiment_data import data_options
from muomni.program import INSTALLED, TRAIN
from muomni.run import forecast
from muomni.run.signals import PARENT
from muomni.run.time_spans import duration

log = logging.getLogger(__name__)

#: Overrides that apply to prerequisites as well, next to the experiment's data options; others apply to the named stage only.
SHARED = (
    "size", "data", "budget", "paths", "seed", "vocab_size", "logger", "prerequisites", "resume", "trainer", "experiment",
    "characters", "text", "tokenizer", "codec_mel", "mel@codec_mel", "dry_run",
)  # fmt: skip
#: Overrides that also apply to certain prerequisites: the codec that is trained, and that the Talker learns to speak through.
OF_STAGES = {"codec": ("codec",), "talker": ("codec",)}
SHARED_KEYS = ("trainer.accelerator", "trainer.devices", "trainer.precision")
#: Overrides that also apply to prerequisites that an ablation changes (muomni/cli/ablations.py).
ABLATED = ("tag", "ablation", "backbone", "image_encoder", "audio_encoder", "mel", "hearing")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Requirements on an export used as a prerequisite: its stage's folder, this size, and at least this level of budget."""

    exports: Mapping[str, Path]
    size: str
    level: float

    def has(self, stage: str) -> bool:
        """Whether there is such an export. Raises ValueError if there is one of another size."""
        folder = self.exports[stage]
        if not is_export(folder):
            return False
        facts: dict[str, Any] = read_description(folder)["facts"]
        if "imported" in facts:  # pretrained: of a size and a budget of its own
            return True
        run: dict[str, Any] = facts.get("run", {})
        if run.get("size") != self.size:
            raise ValueError(
                f"{folder} was trained with size={run.get('size')}, this run has size={self.size}: "
                "move it away, or keep the two apart by paths.root=DIR"
            )
        return float(run.get("level", 0)) >= self.level


def shared_overrides(overrides: Sequence[str], *, stage: str = "", ablated: bool = False) -> list[str]:
    """The overrides of a command line that are passed on to a prerequisite, training `stage`. ablated: it is one that they
    change."""
    kept, shared = [], {*SHARED, *OF_STAGES.get(stage, ()), *(ABLATED if ablated else ()), *data_options(overrides)}
    for override in overrides:
        key = override.lstrip("+~").split("=", 1)[0]
        whole = key.split(".", 1)[0]
        if key in SHARED_KEYS or (whole in shared and not key.startswith("trainer.")):
            kept.append(override)
    return kept


def read_needs(conf: Path, *, tells_states: bool = False) -> dict[str, list[str]]:
    """stage -> the stages it needs, from conf/stage/*.yaml. tells_states: a Talker is told the states of a Thinker
    (conditioning.py)."""
    needs = {
        path.stem: yaml.safe_load(path.read_text())["stage"]["needs"]
        for path in sorted((conf / "stage").glob("*.yaml"))
    }
    if tells_states:
        needs["talker"] = ["thinker", *needs["talker"]]
    return needs


def missing(needs: Sequence[str], graph: Mapping[str, Sequence[str]], wanted: Wanted) -> list[str]:
    """The prerequisites to train, in topological order."""
    ordered: list[str] = []

    def visit(stage: str) -> None:
        if stage in ordered or wanted.has(stage):
            return
        for need in graph[stage]:
            visit(need)
        ordered.append(stage)

    for need in needs:
        visit(need)
    return ordered


def command(stage: str, overrides: Sequence[str], *, ablated: bool = False) -> list[str]:
    """The command that trains a prerequisite, with as many processes as this run has on this machine."""
    several = rendezvous.local_world_size()
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={several}"] if several > 1 else []
    return [
        sys.executable,
        *torchrun,
        sys.argv[0],
        f"stage={stage}",
        *shared_overrides(overrides, stage=stage, ablated=ablated),
    ]


def shown(stage: str, overrides: Sequence[str], *, ablated: bool = False) -> str:
    """That command as a person would type it."""
    typed = shlex.join(["python", *command(stage, overrides, ablated=ablated)[1:]])
    return typed.replace(shlex.join(["python", sys.argv[0]]), TRAIN) if INSTALLED else typed


def side_by_side() -> int:
    """Number of stages to train at once: two with at least two cores, no GPU and a single process, else one."""
    return 1 if torch.cuda.is_available() or (os.cpu_count() or 1) < 2 or rendezvous.world_size() > 1 else 2


def train(
    stages: Sequence[str], graph: Mapping[str, Sequence[str]], *, overrides: Sequence[str], jobs: int,
    ablated: Collection[str] = (),
) -> None:  # fmt: skip
    """Train stages, each as soon as its prerequisites are done, at most `jobs` at once.

    ablated: the stages that the overrides change.
    Raises RuntimeError when one fails; the others are then terminated and can be resumed.
    """
    order = TopologicalSorter({stage: [need for need in graph[stage] if need in stages] for stage in stages})
    order.prepare()
    ready: list[str] = []
    running: dict[str, tuple[subprocess.Popen[bytes], int]] = {}  # and the line of its progress bar
    lines = list(range(jobs))
    environment = {**rendezvous.without_rank(), PARENT: str(os.getpid())}
    if jobs > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    try:
        while order.is_active():
            ready += order.get_ready()
            while ready and lines:
                stage, line = ready.pop(0), lines.pop(0)
                log.info("training stage=%s first:  %s", stage, shown(stage, overrides, ablated=stage in ablated))
                words = command(stage, overrides, ablated=stage in ablated)
                process = subprocess.Popen([*words, f"callbacks.progress.process_position={line}"], env=environment)
                running[stage] = process, line
            time.sleep(0.1)
            for stage, (process, line) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[stage]
                lines.append(line)
                if process.returncode:
                    raise RuntimeError(
                        f"stage={stage}, which is needed first, ended with exit code {process.returncode}"
                    )
                order.done(stage)
                forecast.note(stage, 0)
                if (left := forecast.remaining()) is not None:
                    log.info("stage=%s is trained; about %s to go", stage, duration(left))
    except BaseException:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.wait()
        raise
