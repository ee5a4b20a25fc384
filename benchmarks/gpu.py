"""python -m benchmarks.gpu     what can be checked on a GPU alone: one table, in at most 12 minutes of the device.

    minutes=12      no check begins after so many
    only=a,b        of: stages, mfu, kernels, decoding, sound, ranks, resume
    root=DIR        folder of exports and data; default: a temporary folder in which two steps of each stage are trained
    out=FILE        the rows as JSON, default benchmarks/results/gpu.json

Every stage trains ten steps in bfloat16 and in float16, with its guards; the Thinker of 12 layers x 768 trains at 2048 tokens,
eagerly and compiled (MFU of what the maker states); attention kernels are found by the profiler's names; answers are decoded
eagerly and by a recorded CUDA graph, at 1 and 64 rows (share of the rate at which this GPU copies memory); the first sound of a
sentence; two processes, if there are two GPUs; a run that is killed and started again. Exit code 1 if a row is not in order, or
without a GPU.
"""

import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_checks.measuring import FULL, Row, row
from benchmarks.results import table, write_results
from benchmarks.stages import prepared
from muomni.cli.key_value import run_program, split_options

OWN = {"minutes": 12.0, "only": (), "root": "", "out": "benchmarks/results/gpu.json"}
NO_GPU = "error: no CUDA GPU on this machine: torch.cuda.is_available() is False; without one: pytest tests/device"
Check = Callable[[], list[Row]]


def checks_of(overrides: list[str], folder: Path, device: torch.device) -> dict[str, Check]:
    """The checks by name, what matters most first. overrides: of `prepared`; folder: for what runs write."""
    from benchmarks.gpu_checks import (
        decoding,
        runs,
        training,
    )  # seconds of imports, which a machine without a GPU is spared

    root = Path(next(word.partition("=")[2] for word in overrides if word.startswith("paths.root=")))
    return {
        "stages": lambda: training.stages(overrides, folder, shapes=FULL, device=device),
        "mfu": lambda: training.mfu(shapes=FULL, device=device, compiled=True),
        "kernels": lambda: training.attention_kernels(shapes=FULL, device=device),
        "decoding": lambda: decoding.tokens_per_second(
            shapes=FULL, device=device, modes=("none", "default"), folder=folder, dtype="bfloat16"
        ),
        "sound": lambda: decoding.first_sound(root / "checkpoints/omni_sft", device=device),
        "ranks": lambda: runs.two_ranks(overrides),
        "resume": lambda: runs.resume_after_kill(root, overrides),
    }


def run_checks(checks: Mapping[str, Check], *, seconds: float) -> list[Row]:
    """The rows of all checks; one that fails is a row that says so, and those that would begin too late are named."""
    end, rows = time.perf_counter() + seconds, []
    for name, check in checks.items():
        if time.perf_counter() > end:
            rows.append(row(name, "out of time: not run", None, "", ok=False))
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            rows += check()
        except Exception as error:  # the other checks are worth the device's time
            traceback.print_exc()
            rows.append(row(name, " ".join(f"{type(error).__name__}: {error}".split())[:120], None, "", ok=False))
    return rows


def main(arguments: list[str]) -> None:
    options, rest = split_options(arguments, OWN)
    if not torch.cuda.is_available():
        sys.exit(NO_GPU)
    torch.set_float32_matmul_precision("high")  # as train.py
    report(measure(options, rest, torch.device("cuda", 0)), options["out"])


def measure(options: dict[str, Any], rest: list[str], device: torch.device) -> list[Row]:
    """The rows of the chosen checks. rest: overrides of the configuration."""
    with prepared(options["root"], rest) as overrides, tempfile.TemporaryDirectory(prefix="muomni-gpu-") as folder:
        checks = checks_of(overrides, Path(folder), device)
        unknown = set(options["only"]) - checks.keys()
        if unknown:
            sys.exit(f"error: only={','.join(sorted(unknown))}: there are {', '.join(checks)}")
        chosen = {name: checks[name] for name in options["only"] or checks}
        return run_checks(chosen, seconds=60 * options["minutes"])


def report(rows: list[Row], out: str) -> None:
    """Print the table, write the file, and end with code 1 if a row is not in order."""
    print(table([{**each, "ok": "yes" if each["ok"] else "NO"} for each in rows]))
    write_results(out, {"torch": torch.__version__, "cuda": torch.version.cuda, "rows": rows})
    if not all(each["ok"] for each in rows):
        sys.exit(1)


if __name__ == "__main__":
    run_program(main)
